#!/usr/bin/env python3
"""browser.py -- web pages in headless Chromium try to reach heapd, and get nothing.

    tests/fault/browser.py [--heapd build/heapd] [--browser chromium] [--only WORD] [--long] [--verbose]

browser_page.html tries all that a page can send to a port of this machine: fetch, XHR, beacons, forms, elements,
frames, events, WebSockets, workers, raw lines in bodies.  It comes from

    another port        http://127.0.0.1:P            the same site for the browser, another origin
    another name        http://localhost:P            another site
    a foreign name      http://evil.test:P            resolved to loopback, and aiming at several names of it
    a file              file:///                      origin null
    a rebound name      http://evil.test:heapd's      first the page, then, under the same name and port, heapd: the
                                                      browser takes it for the same origin

Each needs some seconds.  After each, seen through the Unix socket: no request was run, nothing was created, read or
collected; and the page says that it could read nothing.  That the attacks do leave the browser, and that the page can
read what may be read, is shown on a careless server; that the daemon's side can be seen, by a rebound name that
--allow-host allows: there the same page does create and read, and every look must complain.

Installs chromium where that can be done.  Exit code 77: there is none.  Start at main().
"""
import argparse
import base64
import hashlib
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "browser_page.html")
PATIENCE_S = 300  # for a page to end: only a hang takes as long
SECRET = "sesame-4711"
# Attacks that wait for an answer which does not come where they are let in.
WAITING = ["event-source", "fetch-events", "turn"]
# What pages can read of a server that allows all.
READABLE = {"fetch-json", "fetch-text", "fetch-get", "fetch-events", "xhr-text", "xhr-sync", "event-source",
            "web-socket", "worker", "sandbox-post"}


class Wrong(Exception):
    """What is not as it must be."""


# ---- the daemon ----

class Daemon:
    """A heapd with something to steal."""

    def __init__(self, program, folder, *arguments):
        self.path = os.path.join(folder, "socket")
        self.log = open(os.path.join(folder, "log"), "a+b")
        self.process = subprocess.Popen([program, "--listen", "unix:" + self.path, "--listen", "tcp:127.0.0.1:0",
                                         *arguments], stdout=subprocess.PIPE, stderr=self.log)
        ready = self.process.stdout.readline().decode()
        if not ready.startswith("heapd ready"):
            raise Wrong("heapd does not start")
        self.port = int(ready.rsplit(":", 1)[1])
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self.path)
        self.lines = self.socket.makefile("rw")
        self.call("create", [SECRET, {"key": [SECRET]}], SECRET)
        self.asked = 1
        self.before = self.figures()

    def call(self, method, *params):
        self.lines.write(json.dumps({"id": 1, "method": method, "params": params}) + "\n")
        self.lines.flush()
        return json.loads(self.lines.readline())["result"]

    def figures(self):
        """All that a request would change.  Takes five requests.  What is no request is counted and answered, too."""
        server, objects = self.call("stats", "server"), self.call("stats", "objects")
        names = [row["name"] for row in self.call("name.list")["names"]]
        collections = [generation["collections"] for generation in self.call("gc.get_stats")]
        self.asked += 5
        not_run = server["errors"]["parse_error"] + server["errors"]["invalid_request"]
        return {"requests run besides ours": server["requests"] + server["notifications"] - not_run - self.asked,
                "objects": (objects["live"], objects["created"], objects["freed"]), "names": names,
                "collections": collections, "sessions": self.call("stats", "sessions")["leased"]}

    def connections(self):
        self.asked += 1
        return self.call("stats", "server")["connections_total"]

    def complaints(self):
        """What is not as it was: sentences."""
        now = self.figures()
        return ["%s: %s before, %s now" % (what, was, now[what])
                for what, was in self.before.items() if was != now[what]]

    def stop(self):
        self.lines.close()
        self.socket.close()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        self.process.stdout.close()
        self.log.close()
        if code != 0:
            raise Wrong("heapd ended with code %d" % code)


# ---- servers of ours ----

class Site(http.server.ThreadingHTTPServer):
    """Serves the page, takes its report; to everything else it is as careless as a server can be."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Careless)
        self.port = self.server_address[1]
        self.arrived = {}  # attack -> whether what it wanted to create was in a body, or in a URL
        self.report, self.is_reported = None, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A browser that goes away is no error."""

    def wait(self):
        """The page's report: what it could read, and how long it took, by attack."""
        if not self.is_reported.wait(PATIENCE_S):
            raise Wrong("the page does not come to its end")
        self.is_reported.clear()
        return self.report


class Careless(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode(errors="replace")
        url = urllib.parse.urlsplit(self.path)
        attack = urllib.parse.parse_qs(url.query).get("a", [None])[0]
        if url.path == "/page":
            with open(PAGE, "rb") as file:
                return self.give(file.read(), "text/html")
        if url.path == "/report":
            self.server.report = json.loads(body)
            self.server.is_reported.set()
        if attack and self.command != "OPTIONS":
            has_body = "pwned-" + attack in urllib.parse.unquote_plus(body)
            self.server.arrived[attack] = self.server.arrived.get(attack, False) or has_body
        if self.headers.get("Upgrade") == "websocket":
            return self.upgrade()
        if url.path == "/events":
            return self.give(b"data: %s\n\n" % SECRET.encode(), "text/event-stream")
        return self.give(SECRET.encode(), "text/plain")

    do_GET = do_POST = do_PUT = do_OPTIONS = do_create = answer

    def give(self, body, kind):
        self.send_response(200)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
                            ("Access-Control-Allow-Origin", self.headers.get("Origin", "*")),
                            ("Access-Control-Allow-Methods", "GET, POST, PUT, create"),
                            ("Access-Control-Allow-Headers", "content-type, authorization"),
                            ("Access-Control-Allow-Credentials", "true")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def upgrade(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        if "Sec-WebSocket-Protocol" in self.headers:
            self.send_header("Sec-WebSocket-Protocol", self.headers["Sec-WebSocket-Protocol"])
        self.end_headers()
        self.wfile.flush()
        self.connection.recv(4096)
        self.close_connection = True

    def send_error(self, *arguments, **more):
        """What comes is no HTTP."""
        if b"pwned" in self.raw_requestline or self.raw_requestline[:1] == b"\0":
            self.server.arrived["turn"] = True
        self.close_connection = True

    def log_message(self, *arguments):
        pass


class Rebound(threading.Thread):
    """127.0.0.2 at the daemon's port: what a DNS server does that first names an address of its own, then ours.  The
    page comes from here, once; all else goes to the daemon byte by byte."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.is_served = port, False
        self.listener = socket.create_server(("127.0.0.2", port))
        self.start()

    def run(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            first = connection.recv(1 << 16)
            if not first:
                return
            if first.startswith(b"GET /page") and not self.is_served:
                self.is_served = True
                with open(PAGE, "rb") as file:
                    page = file.read()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                                   b"Content-Length: %d\r\n\r\n" % len(page) + page)
                return
            with socket.create_connection(("127.0.0.1", self.port)) as far:
                far.sendall(first)
                back = threading.Thread(target=self.copy, args=(far, connection), daemon=True)
                back.start()
                self.copy(connection, far)
                back.join()

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


# ---- the browser ----

class Browser:
    """One page in a Chromium of its own.  What that has against such pages is off: it is heapd that is tested."""

    OFF = ("LocalNetworkAccessChecks", "BlockInsecurePrivateNetworkRequests", "PrivateNetworkAccessForNavigations",
           "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "Translate", "OptimizationHints", "MediaRouter")

    def __init__(self, program, folder, url, names="127.0.0.1"):
        self.profile = tempfile.mkdtemp(dir=folder)
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", "--disable-background-networking", "--disable-component-update",
                   "--disable-sync", "--no-proxy-server", "--disable-popup-blocking", "--user-data-dir=" + self.profile,
                   "--disable-features=" + ",".join(self.OFF), "--autoplay-policy=no-user-gesture-required",
                   "--host-resolver-rules=MAP *.test " + names, url]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def visit(options, folder, site, page, target, names="127.0.0.1", skip=()):
    """What the page at that address could read of the target, by attack."""
    wants = json.dumps({"target": target, "report": "http://127.0.0.1:%d/report" % site.port, "skip": skip})
    browser = Browser(options.browser, folder, page + "#" + urllib.parse.quote(wants), names)
    try:
        report = site.wait()
    finally:
        browser.stop()
    if options.verbose:
        slow = sorted(report["took"].items(), key=lambda item: -item[1])[:6]
        print("%d ms, %s" % (sum(report["took"].values()), ", ".join("%s %d" % item for item in slow)), flush=True)
    return report["found"]


# ---- the rounds ----

def read_by(found):
    return sorted(name for name, text in found.items() if text)


def demand_nothing(daemon, found, what, least):
    """Nothing came of the attacks, of which some did arrive."""
    arrived = daemon.connections()
    time.sleep(0.5)  # what a browser sends at its end, too
    complaints = daemon.complaints()
    if read_by(found):
        complaints.append("could be read: %s" % {name: found[name][:200] for name in read_by(found)})
    if complaints:
        raise Wrong("%s: %s" % (what, "; ".join(complaints)))
    print("%-60s %d attacks, %d connections, nothing came of them" % (what, len(found), arrived), flush=True)
    if arrived < least:
        raise Wrong("%s: only %d connections" % (what, arrived))


def careless(options, folder, site):
    """The attacks do what they are meant to, where nobody minds."""
    target = Site()
    found = visit(options, folder, site, "http://localhost:%d/page" % site.port, "http://127.0.0.1:%d" % target.port)
    if options.verbose:
        print("arrived with what they bring: %s\nwithout: %s\nread: %s" % (
            sorted(name for name, has in target.arrived.items() if has),
            sorted(name for name, has in target.arrived.items() if not has), read_by(found)))
    missing = set(found) - set(target.arrived)
    if missing:
        raise Wrong("these attacks do not leave the browser: %s" % sorted(missing))
    missing = READABLE - set(read_by(found))
    if missing:
        raise Wrong("the page cannot read what it may: %s" % sorted(missing))
    print("%-60s %d of %d attacks arrive, %d read" % ("a careless server", len(target.arrived), len(found),
                                                    len(read_by(found))), flush=True)


def foreign(options, folder, site):
    """Pages of other origins."""
    pages = [("another port", "http://127.0.0.1:%d/page" % site.port, ["localhost", "127.0.0.1"]),
             ("another name", "http://localhost:%d/page" % site.port, ["127.0.0.1", "localhost"]),
             ("a foreign name", "http://evil.test:%d/page" % site.port, ["0.0.0.0", "evil.test", "127.0.0.1"]),
             ("a file", "file://" + PAGE, ["127.0.0.1", "localhost"])]
    for what, page, hosts in pages:
        for host in hosts if options.long else hosts[-1:]:
            daemon = Daemon(options.heapd, folder)
            try:
                found = visit(options, folder, site, page, "http://%s:%d" % (host, daemon.port))
                # A browser may refuse the address that is none by itself.
                demand_nothing(daemon, found, "%s, %s" % (what, host), 0 if host == "0.0.0.0" else 5)
            finally:
                daemon.stop()


def rebound(options, folder, site, daemon, name, skip=()):
    """What was read by a page whose name has become the daemon's."""
    relay = Rebound(daemon.port)
    try:
        origin = "http://%s:%d" % (name, daemon.port)
        return visit(options, folder, site, origin + "/page", origin, "127.0.0.2", skip)
    finally:
        relay.close()


def rebinding(options, folder, site):
    daemon = Daemon(options.heapd, folder)
    try:
        found = rebound(options, folder, site, daemon, "evil.test")
        # Refusals of the same origin can be read: they tell nothing.
        told = {name: "" if is_refusal(text) else text for name, text in found.items()}
        demand_nothing(daemon, told, "a rebound name", 5)
    finally:
        daemon.stop()


def is_refusal(text):
    """A method that HTTP does not have is refused before anything else is looked at."""
    is_one = text.startswith(("403 ", "405 ")) or "this Host is not allowed" in text
    return is_one and SECRET not in text


def allowed(options, folder, site):
    """Where the rules let a page in, it does create and read, and we see it."""
    daemon = Daemon(options.heapd, folder, "--allow-host", "friend.test")
    try:
        found = rebound(options, folder, site, daemon, "friend.test", WAITING)
        complaints = daemon.complaints()
        names = [row["name"] for row in daemon.call("name.list", "pwned-")["names"]]
    finally:
        daemon.stop()
    if "pwned-fetch-json" not in names or "pwned-xhr-json" not in names:
        raise Wrong("an allowed page could not create: %s" % names)
    if SECRET not in found["fetch-get-snapshot"] or '"result"' not in found["fetch-json"]:
        raise Wrong("an allowed page could not read: %s" % read_by(found))
    if len(complaints) < 3:
        raise Wrong("what an allowed page has done is not seen: %s" % complaints)
    if names_of_wrong_types(names):
        raise Wrong("an allowed page could create with a type that is not JSON's: %s" % names)
    print("%-60s creates %s" % ("a name that --allow-host allows", ", ".join(names)), flush=True)


def names_of_wrong_types(names):
    return [name for name in names if "json" not in name and name != "pwned-fetch-credentials"]


def curl_like(options, folder, _site):
    """A program, which sends what no browser does, gets in; and is seen."""
    daemon = Daemon(options.heapd, folder)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
        connection.request("POST", "/", '{"id":1,"method":"create","params":{"value":[1],"name":"pwned"}}',
                           {"Content-Type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        complaints = daemon.complaints()
    finally:
        daemon.stop()
    if status != 200 or len(complaints) < 3:
        raise Wrong("a program's request is not seen: %d, %s" % (status, complaints))
    print("%-60s creates, and is seen" % "a program", flush=True)


def main():
    subprocess.call([os.path.join(HERE, "..", "..", "deploy", "install-deps.sh"), "browser"])
    parser = argparse.ArgumentParser()
    parser.add_argument("--heapd", default=os.environ.get("HEAPD_BIN", "build/heapd"))
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--only", default="", help="rounds whose name contains it")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--long", action="store_true", help="aims at each name of the daemon from each page")
    options = parser.parse_args()
    if not options.browser:
        print("skipped: there is no chromium, and it cannot be installed")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that browser and daemon are ended, too
    folder = tempfile.mkdtemp(prefix="heapd-browser-")
    site = Site()
    try:
        for round_ in (careless, foreign, rebinding, allowed, curl_like):
            if options.only in round_.__name__:
                round_(options, folder, site)
    except Wrong as error:
        print("FAILED: %s" % error)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
