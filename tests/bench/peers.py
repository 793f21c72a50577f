"""peers.py -- the programs that a benchmark starts: heapd, redis-server, the echo server, the load program.

Each server is an object with the port it listens on; use it in a `with`, which ends it by its own pid
whatever happens.  Nothing outlives bench.py, kill -9 included: the kernel sends the children a SIGTERM then.
A program that is not there is a Missing, whose text goes into the table.

On two or more cores the load program has the last one for itself and the servers have the others, the same
for every peer: left alone, the kernel now and then puts both on one core, and the rate drops by half.
"""
import ctypes
import json
import os
import pwd
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import time

BUILD = "build"
PROGRAMS = f"{BUILD}/tests/bench"
WORK = f"{BUILD}/bench"  # logs, and redis-server's working directory
START_S = 20
STOP_S = 20
PATIENCE_S = 120  # for the end of what should have ended: only a hang takes as long

CORES = sorted(os.sched_getaffinity(0))
LOAD_CORES = CORES[-1:] if len(CORES) > 1 else CORES
SERVER_CORES = CORES[:-1] if len(CORES) > 1 else CORES

FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that a child may have: as many as we may give
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Missing(Exception):
    """A program that is not installed or not built; the text says which."""


class Misbehaved(Exception):
    """A program that did not do what it should; the text says what."""


def become_child(cores):
    """What a child does before it becomes the program: dies with its parent, runs on those cores, may open many
    files."""
    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
        os.sched_setaffinity(0, cores)
    return prepare


def need(path, hint):
    """The path of a program, or Missing."""
    found = shutil.which(path)
    if found is None:
        raise Missing(f"{path} is not there ({hint})")
    return found


def plain_environment():
    """Ours without HEAPD_*, so that a setting of the caller's does not change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEAPD_")}


class Server:
    """A server on 127.0.0.1 while the `with` lasts.  A subclass's start() gives `process` and `port`."""

    name = ""
    cores = SERVER_CORES
    process = None
    port = 0
    version = ""

    def __enter__(self):
        os.makedirs(WORK, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception):
        self.stop()

    def start(self):
        raise NotImplementedError

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None

    def launch(self, command, stdout, environment=None):
        with open(f"{WORK}/{self.name}.log", "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if stdout else log, stderr=log,
                env={**plain_environment(), **(environment or {})}, preexec_fn=become_child(self.cores))

    def ready_line(self):
        """The line that heapd and the echo server print when they listen; takes the port from it."""
        readable, _, _ = select.select([self.process.stdout], [], [], START_S)
        line = self.process.stdout.readline().decode() if readable else ""
        port = re.search(r"listen=tcp:127\.0\.0\.1:(\d+)", line)
        if not port:
            raise Misbehaved(f"{self.name} did not become ready; {WORK}/{self.name}.log says why")
        self.port = int(port.group(1))
        return line

    def cpu_s(self):
        """CPU time the server has used so far, all threads."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def data_folder():
    """Where the real inputs are."""
    return os.environ.get("HEAPD_TEST_DATA", "../shared/data")


def heapd_program():
    return need(os.environ.get("HEAPD_BIN", f"{BUILD}/heapd"), "make builds it")


class Heapd(Server):
    """build/heapd, or $HEAPD_BIN, with those options."""

    name = "heapd"

    def __init__(self, *options):
        self.options = options

    def start(self):
        program = heapd_program()
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=START_S,
                                 env=plain_environment(), check=False).stdout
        self.version = printed.strip().removeprefix("heapd ")
        self.launch([program, "--listen", "tcp:127.0.0.1:0", *self.options], stdout=True)
        self.ready_line()


class Echo(Server):
    """The bare libuv server of bench_echo.c."""

    name = "echo"

    def start(self):
        self.launch([need(f"{PROGRAMS}/bench_echo", "make bench-programs builds it")], stdout=True)
        self.version = re.search(r"libuv=(\S+)", self.ready_line()).group(1)


class Redis(Server):
    """redis-server without persistence, on a free port."""

    name = "redis"

    def start(self):
        program = need("redis-server", "deploy/install-deps.sh bench installs it")
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=START_S,
                                 check=False).stdout
        self.version = re.search(r"v=(\S+)", printed).group(1)
        # redis-server takes no port 0, and another program may be quicker to take a free one: try again then.
        for _ in range(5):
            self.port = free_port()
            self.launch([program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
                         "--appendonly", "no", "--daemonize", "no", "--dir", WORK, "--maxclients", "12000"],
                        stdout=False)
            if self.answers():
                return
            self.stop()
        raise Misbehaved(f"redis-server does not start; {WORK}/{self.name}.log says why")

    def answers(self):
        """Whether it is this server that answers on the port."""
        deadline = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                return f"process_id:{self.process.pid}\r\n" in self.ask("INFO server")
            except OSError:
                time.sleep(0.02)
        return False

    def ask(self, command):
        """The reply to an inline command whose reply is a bulk string: its text."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_S) as connection:
            connection.sendall(command.encode() + b"\r\n")
            reply = connection.makefile("rb")
            head = reply.readline()
            if not head.startswith(b"$"):
                raise Misbehaved(f"redis answered {command} with {head!r}")
            return reply.read(max(int(head[1:]), 0)).decode()


class Memcached(Server):
    """memcached with one worker thread, on a free port."""

    name = "memcached"

    def start(self):
        program = need("memcached", "deploy/install-deps.sh bench installs it")
        printed = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=START_S,
                                 check=False).stdout
        self.version = printed.split()[-1]
        for _ in range(5):
            self.port = free_port()
            # As the user we are: who changes it is not told of our death (become_child).
            self.launch([program, "-u", pwd.getpwuid(os.getuid()).pw_name, "-l", "127.0.0.1", "-p", str(self.port),
                         "-U", "0", "-t", "1", "-c", "12000", "-m", "64"], stdout=False)
            if self.answers():
                return
            self.stop()
        raise Misbehaved(f"memcached does not start; {WORK}/{self.name}.log says why")

    def answers(self):
        deadline = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                return f"STAT pid {self.process.pid}\r" in self.ask("stats", "END\r\n")
            except OSError:
                time.sleep(0.02)
        return False

    def ask(self, command, end):
        """The reply to a command, which ends with `end`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_S) as connection:
            connection.sendall(command.encode() + b"\r\n")
            reply = b""
            while not reply.endswith(end.encode()):
                some = connection.recv(65536)
                if not some:
                    raise Misbehaved(f"memcached closed the connection at {command}")
                reply += some
            return reply.decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Session:
    """A connection to heapd for what is no load: preparing and checking.  It holds what it creates.  `where` is a
    server, or the path of a Unix socket."""

    def __init__(self, where):
        if isinstance(where, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE_S)
            self.socket.connect(where)
        else:
            self.socket = socket.create_connection(("127.0.0.1", where.port), timeout=PATIENCE_S)
        self.lines = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.lines.close()
        self.socket.close()

    def call(self, method, **params):
        return self.call_text(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))

    def call_text(self, request):
        """The same with a request that is a text already."""
        self.socket.sendall(request.encode() + b"\n")
        reply = json.loads(self.lines.readline() or b"{}")
        if "result" not in reply:
            raise Misbehaved(f"heapd answered {request[:200]} with {reply}")
        return reply["result"]


class Load:
    """A load program that runs; use it in a `with`, so that it ends with it."""

    def __init__(self, server, exchanges, pipeline, seconds, connections=50, rate=0, warmup=0.2):
        """`exchanges` are pairs of a request and what its reply begins with, `rate` is requests a second or 0
        (bench_load.c)."""
        self.what = f"load on {server.name}, {connections} connections, pipeline {pipeline}"
        self.seconds, self.server = seconds, server
        command = [need(f"{PROGRAMS}/bench_load", "make bench-programs builds it"), "--port", str(server.port),
                   "--connections", str(connections), "--pipeline", str(pipeline), "--seconds", str(seconds),
                   "--rate", str(rate), "--warmup", str(warmup)]
        for request, reply in exchanges:
            command += ["--request", request, "--reply", reply]
        self.cpu_before = server.cpu_s()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        preexec_fn=become_child(LOAD_CORES))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def figures(self):
        """Waits for its end.  Returns its figures, with the server's CPU time a request."""
        try:
            out, err = self.process.communicate(timeout=self.seconds + PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Misbehaved(f"{self.what}: no end") from None
        if self.process.returncode != 0:
            raise Misbehaved(f"{self.what}: {err.strip()}")
        figures = json.loads(out)
        figures["server_cpu_ns"] = (self.server.cpu_s() - self.cpu_before) * 1e9 / figures["requests_in_all"]
        return figures


def load(server, exchanges, pipeline, seconds, connections=50, rate=0):
    """Runs the load program and returns its figures; parameters as in Load."""
    with Load(server, exchanges, pipeline, seconds, connections, rate) as running:
        return running.figures()
