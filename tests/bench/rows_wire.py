"""rows_wire.py -- requests a second over TCP, beside redis-server and a bare echo server.

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
GOALS_ECHO = {1: (0.9, 0.95), 16: (0.7, 0.8), 64: (None, None)}

REPLY = '{"jsonrpc":"2.0","id":@,"result":'
INCR = '{"jsonrpc":"2.0","id":@,"method":"dict.incr","params":{"object":"counters","key":"k"}}'
REDIS_INCR = "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"


def request(method, obj):
    return f'{{"jsonrpc":"2.0","id":@,"method":"{method}","params":{{"object":{obj}}}}}\n'


class Subject:
    """What is measured: exchanges with a server, and one list of figures a depth."""

    def __init__(self, name, server, exchanges):
        self.name, self.server, self.exchanges = name, server, exchanges
        self.figures = {depth: [] for depth in DEPTHS}

    def measure(self, depth, seconds):
        figures = peers.load(self.server, self.exchanges, depth, seconds, CONNECTIONS)
        self.figures[depth].append(figures)

    def rates(self, depth):
        return [figures["rate"] for figures in self.figures[depth]]

    def requests(self):
        return sum(figures["requests_in_all"] for depth in DEPTHS for figures in self.figures[depth])

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

    def add(self, name, server, exchanges):
        self.there[name] = Subject(name, server, exchanges)

    def add_redis(self):
        server = self.start(peers.Redis, ["redis INCR"])
        if server:
            self.add("redis INCR", server, [(REDIS_INCR, ":")])

    def add_heapd(self):
        names = ["heapd dict.incr", "heapd ref/unref"]
        server = self.start(peers.Heapd, names)
        if not server:
            return
        self.session = peers.Session(server)
        self.stack.callback(self.session.close)
        self.session.call("create", value={}, name="counters")
        self.held = self.session.call("create", value=[])["object"]
        self.add(names[0], server, [(INCR + "\n", REPLY + '{"value":')])
        reply = REPLY + f'{{"object":{self.held},"refcount":'
        self.add(names[1], server, [(request("ref", self.held), reply), (request("unref", self.held), reply)])

    def add_echo(self):
        server = self.start(peers.Echo, ["echo of dict.incr"])
        if server:
            self.add("echo of dict.incr", server, [(INCR + "\n", INCR)])

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
            names = list(subjects.there)
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
    incr = subjects.there.get("heapd dict.incr")
    if incr:
        item = subjects.session.call("dict.getitem", object="counters", key="k", depth=0)
        expect("the counter in heapd", item["value"], incr.requests())
    if "heapd ref/unref" in subjects.there:
        # One hold of ours, one for the argument.  The load's connections may still be ending.
        deadline = time.monotonic() + 5
        count = 0
        while count != 2 and time.monotonic() < deadline:
            count = subjects.session.call("sys.getrefcount", object=subjects.held)
        expect("the refcount of the held object", count, 2)


def add_rows(subjects, report):
    def compare(what, ours, peer, theirs, goals):
        for depth in DEPTHS:
            goal, stretch = goals.get(depth, (None, None))
            report.row("wire", f"{what}, pipeline {depth}", peer, "/s", subjects.rates(ours, depth),
                       subjects.rates(theirs, depth), goal=goal, stretch=stretch)
    compare("dict.incr", "heapd dict.incr", "redis INCR", "redis INCR", GOALS_REDIS)
    compare("ref/unref", "heapd ref/unref", "redis INCR", "redis INCR", {})
    compare("dict.incr", "heapd dict.incr", "bare libuv echo", "echo of dict.incr", GOALS_ECHO)


def add_details(subjects, report, seconds):
    lines = [subject.detail(depth) for depth in DEPTHS for subject in subjects.there.values()]
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
