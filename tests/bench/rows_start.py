"""rows_start.py -- how long a server takes from its start to its first answer, and what it costs idle.

Ready is who has answered the first ping on its Unix socket; the clock starts with exec, since a fork of Python is
not the server's.  Idle memory is what is
resident a moment after that one ping; redis-server's is shown beside it.
"""
import mmap
import os
import socket
import struct
import subprocess
import tempfile
import time

import peers

MIB = 1 << 20
MS = 1_000_000
IDLE_S = 0.3  # after the ping, until memory is read
ROUNDS = 15   # a start takes milliseconds


def ask_until_answered(process, path, ping):
    """Connects as soon as it can, sends the ping, waits for the reply's first bytes."""
    deadline = time.monotonic() + peers.START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(peers.START_S)
            try:
                connection.connect(path)
            except OSError:
                time.sleep(0.0001)
                continue
            connection.sendall(ping)
            reply = connection.recv(4096)
            if not reply:
                raise peers.Misbehaved(f"{process.args[0]} closed the connection")
            return
    raise peers.Misbehaved(f"{' '.join(process.args)} did not become ready")


def resident_bytes(process):
    with open(f"/proc/{process.pid}/smaps_rollup", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    raise peers.Misbehaved("the kernel does not say what is resident")


def start_once(command, path, ping):
    """Starts the server, ends it.  Returns ns until it was ready, and bytes when it was idle."""
    began = mmap.mmap(-1, 8)  # shared with the child
    prepare = peers.become_child(peers.CORES)

    def prepare_and_note():
        prepare()
        began[:] = struct.pack("q", time.perf_counter_ns())
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=peers.plain_environment(),
                               preexec_fn=prepare_and_note)
    try:
        ask_until_answered(process, path, ping)
        ready = time.perf_counter_ns() - struct.unpack("q", began[:])[0]
        time.sleep(IDLE_S)
        return ready, resident_bytes(process)
    finally:
        process.terminate()
        process.wait(peers.STOP_S)


def commands(folder):
    """By name: command, socket, ping; or the reason why there is none."""
    found = {}
    path = os.path.join(folder, "heapd.sock")
    found["heapd"] = ([peers.heapd_program(), "--listen", f"unix:{path}"], path, b'{"id":1,"method":"ping"}\n')
    try:
        redis = peers.need("redis-server", "deploy/install-deps.sh bench installs it")
        path = os.path.join(folder, "redis.sock")
        found["redis"] = ([redis, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir",
                           folder], path, b"PING\r\n")
    except peers.Missing as reason:
        found["redis"] = str(reason)
    return found


def measure(arguments, report):
    rounds = 1 if arguments.smoke else max(arguments.rounds, ROUNDS)
    report.progress(f"start, {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        programs = commands(folder)
        samples = {name: program if isinstance(program, str) else [] for name, program in programs.items()}
        for _ in range(rounds):
            for name, program in programs.items():
                if not isinstance(program, str):
                    samples[name].append(start_once(*program))
    def column(name, i):
        return samples[name] if isinstance(samples[name], str) else [sample[i] for sample in samples[name]]
    report.limit("start", "start to ready", "ns", column("heapd", 0), 10 * MS, 5 * MS, "redis-server",
                 column("redis", 0))
    report.limit("start", "idle, resident", "bytes", column("heapd", 1), 5 * MIB, 4 * MIB, "redis-server",
                 column("redis", 1))
