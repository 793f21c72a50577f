"""rows_wire.py -- requests a second over TCP, beside redis-server, memcached and a bare echo server.

For each pipeline depth the subjects take turns, one measurement each a round, in an order that moves on from
round to round.  After the last one the counters must stand where the load program says it put them.
"""
import statistics
import time
from contextlib import ExitStack

import peers
from report import Details

DEPTHS = (1, 16, 64)
CONNECTIONS = 50
# By pipeline depth: goal and stretch goal of the ratio.
GOALS_REDIS = {1: (1.05, 1.1), 16: (1.25, 1.5), 64: (1.5, 2)}
GOALS_ECHO = {1: (0.9, 0.95), 16: (0.7, 0.8)}
GOALS_CREATE = {16: (1.0, 1.3)}

REPLY = '{"jsonrpc":"2.0","id":@,"result":'
INCR = '{"jsonrpc":"2.0","id":@,"method":"dict.incr","params":{"object":"counters","key":"k"}}'
REDIS_INCR = "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"
# One list is made, the one that had the name dies; its items are immortal.
SMALL = "[1,2,3]"
CREATE = f'{{"jsonrpc":"2.0","id":@,"method":"create","params":{{"value":{SMALL},"name":"small"}}}}'
REDIS_SET = f"*3\r\n$3\r\nSET\r\n$5\r\nsmall\r\n${len(SMALL)}\r\n{SMALL}\r\n"


def request(method, obj):
    return f'{{"jsonrpc":"2.0","id":@,"method":"{method}","params":{{"object":{obj}}}}}\n'


def incr_exchange():
    """dict.incr of the counter that Subjects prepares, for the load program."""
    return (INCR + "\n", REPLY + '{"value":')


class Subject:
    """What is measured: exchanges with a server, and one list of figures a depth."""

    def __init__(self, name, server, exchanges, depths=DEPTHS):
        self.name, self.server, self.exchanges = name, server, exchanges
        self.figures = {depth: [] for depth in depths}

    def measure(self, depth, seconds):
        figures = peers.load(self.server, self.exchanges, depth, seconds, CONNECTIONS)
        self.figures[depth].append(figures)

    def rates(self, depth):
        return [figures["rate"] for figures in self.figures[depth]]

    def requests(self):
        return sum(figures["requests_in_all"] for list_ in self.figures.values() for figures in list_)

    def detail(self, depth):
        """The line of the second table: medians over the rounds, the worst maximum."""
        def median(name):
            return statistics.median(figures[name] for figures in self.figures[depth])
        worst = max(figures["max_us"] for figures in self.figures[depth])
        return [self.name, str(depth), f"{median('rate'):.0f}"] + \
               [f"{median(name):.0f}" for name in ("p50_us", "p99_us", "p999_us")] + \
               [f"{worst:.0f}", f"{median('server_cpu_ns'):.0f}", f"{100 * median('busy'):.0f} %"]


class Subjects:
    """The subjects that can be measured here, and why the others cannot."""

    def __init__(self, stack, report):
        self.there, self.absent = {}, {}
        self.stack, self.report = stack, report
        self.session = self.held = None
        self.add_redis()
        self.add_heapd()
        self.add_memcached()
        self.add_echo()

    def start(self, kind, names):
        """A started server, or None: then `names` are absent."""
        try:
            server = self.stack.enter_context(kind())
        except peers.Missing as reason:
            self.absent.update({name: str(reason) for name in names})
            return None
        except peers.Misbehaved as reason:
            self.report.fail(str(reason))
            self.absent.update({name: str(reason) for name in names})
            return None
        self.report.version("libuv" if kind is peers.Echo else server.name, server.version)
        return server

    def add(self, name, server, exchanges, depths=DEPTHS):
        self.there[name] = Subject(name, server, exchanges, depths)

    def add_redis(self):
        server = self.start(peers.Redis, ["redis INCR", "redis SET"])
        if server:
            self.add("redis INCR", server, [(REDIS_INCR, ":")])
            self.add("redis SET", server, [(REDIS_SET, "+OK")], GOALS_CREATE)

    def add_heapd(self):
        names = ["heapd dict.incr", "heapd create", "heapd ref/unref"]
        server = self.start(peers.Heapd, names)
        if not server:
            return
        self.session = peers.Session(server)
        self.stack.callback(self.session.close)
        self.session.call("create", value={}, name="counters")
        self.held = self.session.call("create", value=[])["object"]
        self.add(names[0], server, [incr_exchange()])
        self.add(names[1], server, [(CREATE + "\n", REPLY + '{"object":')], GOALS_CREATE)
        reply = REPLY + f'{{"object":{self.held},"refcount":'
        self.add(names[2], server, [(request("ref", self.held), reply), (request("unref", self.held), reply)])

    def add_memcached(self):
        server = self.start(peers.Memcached, ["memcached incr"])
        if server:
            server.ask("set k 0 0 1\r\n0", "STORED\r\n")
            # Its reply is the bare number; that it was one is seen by the counter at the end.
            self.add("memcached incr", server, [("incr k 1\r\n", "")])

    def add_echo(self):
        server = self.start(peers.Echo, ["echo of dict.incr"])
        if server:
            self.add("echo of dict.incr", server, [(INCR + "\n", INCR)])

    def at(self, depth):
        """The names of those that are measured at that depth."""
        return [name for name, subject in self.there.items() if depth in subject.figures]

    def rates(self, name, depth):
        """One rate a round, or the reason why there is none."""
        return self.there[name].rates(depth) if name in self.there else self.absent[name]

    def drop(self, name, reason):
        """A subject that failed is not measured further, and its figures do not count."""
        self.report.fail(reason)
        self.absent[name] = reason
        del self.there[name]


def measure_all(subjects, arguments):
    for depth in DEPTHS:
        for number in range(arguments.rounds):
            subjects.report.progress(f"wire, pipeline {depth}, round {number + 1} of {arguments.rounds}")
            names = subjects.at(depth)
            first = number % len(names) if names else 0
            for name in names[first:] + names[:first]:
                try:
                    subjects.there[name].measure(depth, arguments.seconds)
                except peers.Misbehaved as reason:
                    subjects.drop(name, str(reason))


def check_counters(subjects):
    """The servers have counted as many requests as the load program sent, and no hold is left behind."""
    def expect(what, value, wanted):
        if value != wanted:
            subjects.report.fail(f"{what} is {value}, but it must be {wanted}")
    redis = subjects.there.get("redis INCR")
    if redis:
        expect("the counter in redis", redis.server.ask("GET k"), str(redis.requests()))
    memcached = subjects.there.get("memcached incr")
    if memcached:
        lines = memcached.server.ask("get k", "END\r\n").split("\r\n")
        expect("the counter in memcached", lines[1].strip(), str(memcached.requests()))
    incr = subjects.there.get("heapd dict.incr")
    if incr:
        item = subjects.session.call("dict.getitem", object="counters", key="k", depth=0)
        expect("the counter in heapd", item["value"], incr.requests())
    if "heapd create" in subjects.there:
        # The list that has the name, the counters, their value, and what is held: no list was left behind.
        expect("the heap's live objects", subjects.session.call("stats", section="objects")["live"], 4)
    if "heapd ref/unref" in subjects.there:
        # One hold of ours, one for the argument.  The load's connections may still be ending.
        deadline = time.monotonic() + 5
        count = 0
        while count != 2 and time.monotonic() < deadline:
            count = subjects.session.call("sys.getrefcount", object=subjects.held)
        expect("the refcount of the held object", count, 2)


def add_rows(subjects, report):
    def compare(what, ours, peer, theirs, goals, depths=DEPTHS):
        for depth in depths:
            goal, stretch = goals.get(depth, (None, None))
            report.row("wire", f"{what}, pipeline {depth}", peer, "/s", subjects.rates(ours, depth),
                       subjects.rates(theirs, depth), goal=goal, stretch=stretch)
    compare("dict.incr", "heapd dict.incr", "redis INCR", "redis INCR", GOALS_REDIS)
    compare("dict.incr", "heapd dict.incr", "bare libuv echo", "echo of dict.incr", GOALS_ECHO)
    compare("dict.incr", "heapd dict.incr", "memcached incr", "memcached incr", {})
    compare("create of a small list, name rebound", "heapd create", "redis SET", "redis SET", GOALS_CREATE,
            GOALS_CREATE)
    compare("ref/unref", "heapd ref/unref", "redis INCR", "redis INCR", {})


def add_details(subjects, report, seconds):
    lines = [subjects.there[name].detail(depth) for depth in DEPTHS for name in subjects.at(depth)]
    if len(peers.CORES) == 1:
        where = "load program and servers on the one core there is"
    else:
        servers = ", ".join(map(str, peers.SERVER_CORES))
        where = f"the load program alone on core {peers.LOAD_CORES[0]}, the servers on core {servers}"
    report.details.append(Details(
        "The wire in detail",
        f"{CONNECTIONS} TCP connections on loopback, {seconds:g} s a measurement, {where}. A connection sends "
        "as many requests as the pipeline is deep in one write and waits for all replies. Latencies are "
        "medians of the rounds' percentiles; max is the worst of all rounds. CPU is the server's, all threads, "
        "user and system. Busy is the share of its core that the load program used. The echo server's line is "
        "what the load program can do: where another line is well below it, the load program is not what limits "
        "that one.",
        ["subject", "pipeline", "requests/s", "p50 us", "p99 us", "p99.9 us", "max us", "CPU ns/request", "busy"],
        lines))


def measure(arguments, report):
    with ExitStack() as stack:
        subjects = Subjects(stack, report)
        measure_all(subjects, arguments)
        check_counters(subjects)
        add_rows(subjects, report)
        add_details(subjects, report, arguments.seconds)
