"""A real Kafka on this machine for development and tests: one broker or three, started and stopped by us.

The brokers are plain Java processes in KRaft mode, each broker and controller at once. They end with this process,
however it ends.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, Self

from core.errors import BadInput, Missing, Unavailable

POM: Final = Path(__file__).resolve().parent / "tests" / "kafka" / "pom.xml"
VERSION: Final = "4.3.1"  # as in the POM
JAVA: Final = 17
HOST: Final = "127.0.0.1"
READY_TOPIC: Final = "dev-ready"
READY_S: Final = 90.0  # a broker that was killed reads its log first
FETCH_S: Final = 600.0
STOP_S: Final = 15.0  # then SIGKILL
STOP_SOON_S: Final = 3.0  # where the data is thrown away
HEAP_MB: Final = {1: 256, 3: 192}
PORTS: Final = range(20_000, 32_000)  # below those that the system gives to outgoing connections
QUIET: Final = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
JVM: Final = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    QUIET,
)
CONFIG: Final = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
num.partitions=4
default.replication.factor={copies}
min.insync.replicas={insync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={insync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={insync}
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms={session}
broker.heartbeat.interval.ms={heartbeat}
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=1000
log.segment.bytes=67108864
num.network.threads=2
num.io.threads=2
"""


def why_not() -> str | None:
    """What keeps a broker from being run here, and how to get it; None where nothing does."""
    if not POM.exists():
        return f"no {POM}: the broker for development comes with the checkout"
    version = _java_version()
    if version is None:
        return f"no java; install Java {JAVA} or later (Debian and Ubuntu: apt-get install default-jre-headless)"
    if version < JAVA:
        return f"java is version {version}; install {JAVA} or later"
    if not _fetched(libraries()) and shutil.which("mvn") is None:
        return f"no Kafka in {libraries()} and no mvn to fetch it; install Maven (apt-get install maven)"
    try:
        import aiokafka  # noqa: F401
    except ImportError:
        return "aiokafka is not installed; pip install 'headwater[kafka]'"
    return None


def libraries() -> Path:
    """The folder of Kafka's jars, shared by all checkouts of one person."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "headwater" / f"kafka-{VERSION}"


def run(port: int, brokers: int, folder: Path | None) -> None:
    """Run brokers until SIGINT or SIGTERM: what `headwater dev kafka` does. Without a folder its data is deleted then.

    Raises:
        Missing: Java, Maven or Kafka itself is not there.
        Unavailable: a port is taken, or a broker ended by itself.
    """
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with Kafka(folder, brokers=brokers, port=port) as kafka:
        print(_told(kafka), flush=True)
        while not over.wait(1.0):
            if ended := set(kafka.nodes) - set(kafka.alive()):
                node = min(ended)
                raise Unavailable(f"broker {node} ended: {_end(kafka.log(node).read_text(errors='replace'))}")


def _told(kafka: Kafka) -> str:
    copies = "" if len(kafka.nodes) == 1 else "\n    replication = 3\n    min_insync = 2"
    return (
        f"Kafka {VERSION} answers at {kafka.bootstrap}; its data and logs lie in {kafka.log(1).parent}\n"
        f'for headwater.toml:\n    [kafka]\n    bootstrap = "{kafka.bootstrap}"{copies}\n'
        "then: headwater topics create. Ctrl-C stops it."
    )


class Kafka:
    """Brokers 1 to `brokers`, on ports of their own; `bootstrap` names them. Safe to stop twice.

    Args:
        folder: where data and logs lie and stay; without one a temporary folder that `stop` deletes.
        brokers: 1 or 3. Of three, two must have a record before it counts as written.
        port: of the first broker, the others follow it; 0 for ports that are free.
    """

    def __init__(self, folder: Path | None = None, *, brokers: int = 1, port: int = 0) -> None:
        if brokers not in HEAP_MB:
            raise BadInput(f"a cluster has 1 or 3 brokers, got {brokers}")
        self._given = folder
        self._folder = folder.resolve() if folder else Path(tempfile.mkdtemp(prefix="headwater-kafka-"))
        self.nodes: Final = tuple(range(1, brokers + 1))
        taken = _free_ports(2 * brokers)
        self.ports: Final = dict(
            zip(self.nodes, (range(port, port + brokers) if port else taken[:brokers]), strict=True)
        )
        self._controllers = dict(zip(self.nodes, taken[brokers:], strict=True))
        self._running: dict[int, _Process] = {}
        self._classes: tuple[str, ...] = ()  # the option that has Java read or write its archive of loaded classes

    @property
    def bootstrap(self) -> str:
        return ",".join(self.address(node) for node in self.nodes)

    def address(self, node: int) -> str:
        """Host and port of one broker."""
        return f"{HOST}:{self.ports[node]}"

    def log(self, node: int) -> Path:
        """What a broker has printed."""
        return self._folder / f"broker-{node}.log"

    def pid(self, node: int) -> int:
        """Process id of a running broker."""
        return self._running[node].pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, *nodes: int) -> Self:
        """Start all brokers, or those named, on the data they had, and wait until they take and copy records.

        Raises:
            Missing: Java, Maven or Kafka itself is not there.
            Unavailable: a broker ended, or was not ready in time; the text has the end of its log.
        """
        reason = why_not()
        if reason is not None:
            raise Missing(reason)
        fetch()
        self._check_folder()
        self._classes = self._classes or (f"-XX:SharedArchiveFile={archive()}",)
        for node in nodes or self.nodes:
            if node not in self._running:
                if _listens(self.ports[node]):
                    raise Unavailable(f"something listens on {self.address(node)} already; name another port")
                self._format(node)
                self._running[node] = _Process(self._command(node), self.log(node))
        try:
            self._wait()
        except BaseException:
            self.stop(keep=True)
            raise
        return self

    def kill(self, node: int = 1) -> None:
        """SIGKILL, as if the machine were gone."""
        self._running.pop(node).end(signal.SIGKILL)

    def terminate(self, node: int = 1) -> None:
        """SIGTERM: the broker hands its partitions over first."""
        self._running.pop(node).end(signal.SIGTERM)

    def pause(self, node: int = 1) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        os.kill(self.pid(node), signal.SIGSTOP)

    def resume(self, node: int = 1) -> None:
        """SIGCONT."""
        os.kill(self.pid(node), signal.SIGCONT)

    def stop(self, *, keep: bool = False) -> None:
        """Stop all brokers, and delete the folder if it is a temporary one and is not to be kept."""
        running, self._running = self._running, {}
        seconds = STOP_S if self._given or keep else STOP_SOON_S
        for process in running.values():
            process.tell(signal.SIGTERM)
        for process in running.values():
            process.end(signal.SIGTERM, seconds)
        if self._given is None and not keep:
            shutil.rmtree(self._folder, ignore_errors=True)

    def alive(self) -> list[int]:
        """The brokers that we started and that have not ended."""
        return [node for node, process in self._running.items() if process.alive]

    # ------------------------------------------------------------------ a broker's files
    def _check_folder(self) -> None:
        there = sum(1 for _ in self._folder.glob("broker-*/meta.properties"))
        if there not in (0, len(self.nodes)):
            raise BadInput(f"{self._folder} holds the data of {there} brokers, asked for {len(self.nodes)}")

    def _properties(self, node: int) -> Path:
        many = len(self.nodes) > 1
        path = self._folder / f"broker-{node}.properties"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            CONFIG.format(
                node=node,
                voters=",".join(f"{one}@{HOST}:{port}" for one, port in self._controllers.items()),
                host=HOST,
                port=self.ports[node],
                controller=self._controllers[node],
                data=self._data(node),
                copies=3 if many else 1,
                insync=2 if many else 1,
                session=6_000 if many else 2_000,
                heartbeat=1_000 if many else 500,
            ),
            encoding="utf-8",
        )
        return path

    def _data(self, node: int) -> Path:
        return self._folder / f"broker-{node}"

    def _format(self, node: int) -> None:
        properties = self._properties(node)
        if (self._data(node) / "meta.properties").exists():
            return
        name = hashlib.sha256(str(self._folder).encode()).digest()[:16]
        cluster = "A" + base64.urlsafe_b64encode(name).decode()[1:22]  # a leading - would be read as an option
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties), "--ignore-formatted"]
        done = subprocess.run([*_java(128), *self._classes, *tool], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"Kafka's data folder could not be made: {_end(done.stdout + done.stderr)}")

    def _command(self, node: int) -> list[str]:
        return [*_java(HEAP_MB[len(self.nodes)]), *self._classes, "kafka.Kafka", str(self._properties(node))]

    # ------------------------------------------------------------------ readiness
    def _wait(self) -> None:
        """In a thread, so that this can be called from within an event loop too."""
        failed: list[BaseException] = []

        def wait() -> None:
            try:
                asyncio.run(self._until_ready(time.monotonic() + READY_S))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=wait, name="kafka-ready")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]

    async def _until_ready(self, deadline: float) -> None:
        reason = ""
        while time.monotonic() < deadline:
            for node, process in self._running.items():
                if not process.alive:
                    raise Unavailable(f"broker {node} ended: {_end(self.log(node).read_text(errors='replace'))}")
            if all(_listens(self.ports[node]) for node in self._running):
                reason = await self._try()
                if not reason:
                    return
            await asyncio.sleep(0.1)
        logs = "\n".join(f"broker {node}: {_end(self.log(node).read_text(errors='replace'))}" for node in self._running)
        raise Unavailable(f"Kafka was not ready in {READY_S:.0f} s, {reason}; {logs}")

    async def _try(self) -> str:
        """Have a record acknowledged; what was wrong, or nothing. All that run must have a copy of it."""
        from aiokafka import AIOKafkaProducer
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic
        from aiokafka.errors import KafkaError

        addresses = [self.address(node) for node in self._running]
        admin = AIOKafkaAdminClient(bootstrap_servers=addresses, request_timeout_ms=5_000)
        producer = AIOKafkaProducer(bootstrap_servers=addresses, acks="all", request_timeout_ms=5_000)
        try:
            await admin.start()
            await admin.create_topics([NewTopic(READY_TOPIC, 1, len(self.nodes))])  # an error only where it is there
            (found,) = await admin.describe_topics([READY_TOPIC])
            behind = set(self._running) - {node for one in found["partitions"] for node in one["isr"]}
            if behind:
                return f"brokers {sorted(behind)} have no copy yet"
            await producer.start()
            await producer.send_and_wait(READY_TOPIC, b"ready", partition=0)
            return ""
        except (KafkaError, OSError, AttributeError) as error:  # of a controller that aiokafka does not know yet
            return repr(error)
        finally:
            await producer.stop()
            await admin.close()


class _Process:
    """A broker's process, and a shell that kills it when this process is gone."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        with log.open("ab") as out:
            self._java = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        # Its input ends when we do. PR_SET_PDEATHSIG would tie the broker to the thread that started it.
        self._watch: subprocess.Popen[bytes] | None = subprocess.Popen(
            ["sh", "-c", 'read _; kill -9 "$0" 2>/dev/null', str(self._java.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.end, signal.SIGKILL)

    @property
    def pid(self) -> int:
        return self._java.pid

    @property
    def alive(self) -> bool:
        return self._java.poll() is None

    def tell(self, number: signal.Signals) -> None:
        """A paused process gets it at once."""
        if self.alive:
            self._java.send_signal(number)
            self._java.send_signal(signal.SIGCONT)

    def end(self, number: signal.Signals, seconds: float = STOP_S) -> None:
        """Signal it, wait, and kill it if that takes too long."""
        self.tell(number)
        try:
            self._java.wait(seconds)
        except subprocess.TimeoutExpired:
            self._java.kill()
            self._java.wait()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.kill()
            assert watch.stdin is not None
            watch.stdin.close()
            watch.wait()
        atexit.unregister(self.end)


def fetch() -> Path:
    """The folder of jars; the first call has Maven fetch them, once for all processes.

    Raises:
        Missing: Maven is not installed or failed.
    """
    folder = libraries()
    if _fetched(folder):
        return folder
    with _one_process():
        if not _fetched(folder):
            _copy_dependencies(folder)
    return folder


def archive() -> Path:
    """Kafka's classes as this Java loads them, which halves the time to start; the first call takes some seconds.

    Where it could not be written, or no longer fits, Java goes on without.
    """
    folder = libraries()  # the file lies beside it: one more file within may change the order of the jars
    path = folder.with_name(f"{folder.name}-java-{_java_named()}.jsa")
    if not path.exists():
        with _one_process():
            if not path.exists():
                _write_archive(path)
    return path


def _write_archive(path: Path) -> None:
    beside = path.with_suffix(f".{os.getpid()}")
    broker = Kafka()
    try:
        broker._format(1)  # what this loads is not what a broker loads
        broker._classes = (f"-XX:ArchiveClassesAtExit={beside}",)
        broker.start().terminate()
        if beside.exists():
            beside.rename(path)
    finally:
        broker.stop()
        beside.unlink(missing_ok=True)


@contextmanager
def _one_process() -> Iterator[None]:
    """Others wait until this one has fetched or written what all share."""
    folder = libraries()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_dependencies(folder: Path) -> None:
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={beside}"]
    try:
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(POM), *goal],
            capture_output=True,
            text=True,
            check=False,
            timeout=FETCH_S,
        )
        if done.returncode != 0:
            raise Missing(f"Maven could not fetch Kafka {VERSION}: {_end(done.stdout + done.stderr)}")
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)  # a folder of this name is whole
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"Maven could not fetch Kafka {VERSION}: {error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fetched(folder: Path) -> bool:
    return (folder / f"kafka_2.13-{VERSION}.jar").exists()


def _java(heap_mb: int) -> list[str]:
    return ["java", f"-Xmx{heap_mb}m", *JVM, "-cp", f"{libraries()}/*"]


@cache
def _java_named() -> str:
    """Java's version as it names it, such as 17.0.15; nothing where there is no Java."""
    if shutil.which("java") is None:
        return ""
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "([^"]+)"', told)
    return found[1] if found else ""


def _java_version() -> int | None:
    """The number that counts: 17 of 17.0.15, 8 of 1.8.0."""
    found = re.match(r"(?:1\.)?(\d+)", _java_named())
    return int(found[1]) if found else None


def _free_ports(count: int) -> list[int]:
    start = os.getpid() * 31 % len(PORTS)  # so that two processes hardly try the same ones
    free = (port for port in (*PORTS[start:], *PORTS[:start]) if _free(port))
    return [next(free) for _ in range(count)]


_GIVEN: Final[set[int]] = set()  # ports of this process's clusters, which may be stopped for a while


def _free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    if port in _GIVEN:
        return False
    _GIVEN.add(port)
    return True


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False


def _end(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:]) or "nothing was printed"
