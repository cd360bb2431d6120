"""`zfsync doctor`: goes the whole way of a job as cron would, and looks at everything on it. Nothing is written.

What is found is judged by `zfsync_ssh.checks`.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import checks, keys
from .agent import AgentClient
from .checks import Check, ok, problem, warning
from .config import Job
from .dataset import Inventory
from .delegation import Use, permissions, source_uses, target_uses
from .endpoint import Endpoint
from .errors import AgentError, ConnectError, HostKeyError, LoginError, UsageError, ZfsError, ZfsyncError
from .location import Location
from .messages import Hello
from .reach import buffer_of, endpoint_at, ssh_options
from .ssh_keys import public_key
from .ssh_lines import fingerprint, kind_of
from .transport import SshOptions, known_keys
from .zfs import FEATURES_QUERY

THIS_MACHINE = "this machine"

DISPENSABLE = (Use.HOLD, Use.BOOKMARK, Use.DROP, Use.PROMOTE)
"""What a run does without, and says so, where it is not allowed."""

Tell = Callable[[str, Check], None]
"""Takes each check as it is made: where, and what was found."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: a job, or no more than the one end that was named."""

    job: Job
    ends: tuple[Location, ...]
    named: bool
    """The job is one of the configuration."""
    agent: bool = False
    """The user has an ssh-agent, which cron has not."""


async def examine(patient: Patient, tell: Tell) -> None:
    """Look at each end, the source first."""
    used, encrypted = 0, False
    for end in patient.ends:
        look = _Look(patient, end, tell, used, encrypted)
        await look.run()
        if end == patient.job.source and look.inventory is not None and "" in look.inventory:
            root = look.inventory.datasets[""]
            used, encrypted = root.used, root.encrypted and patient.job.transfer.policy.raw


class _Look:
    """One end. ``used`` is how much the source has, ``encrypted`` says that raw streams will come from it."""

    def __init__(self, patient: Patient, end: Location, tell: Tell, used: int, encrypted: bool) -> None:
        self._patient = patient
        self._job = patient.job
        self._end = end
        self._receives = end != patient.job.source
        self._used = used
        self._encrypted = encrypted
        self._where = end.shown if end.host else f"{THIS_MACHINE}: {end.dataset}"
        self._tell_all = tell
        self.inventory: Inventory | None = None

    def _tell(self, check: Check) -> None:
        self._tell_all(self._where, check)

    async def run(self) -> None:
        """All of it, as far as one gets."""
        way = self._job.connection
        if self._end.host:
            self._tell(key_check(ssh_options(way, self._end), self._patient.named, self._setup))
        try:
            buffer = buffer_of(self._end.dataset, self._job.transfer.buffer) if self._receives else ""
            endpoint = endpoint_at(way, self._end, buffer)
        except UsageError as error:
            self._tell(problem("configuration", str(error)))
            return
        try:
            opened = await self._open(endpoint)
            if opened is not None:
                await self._inside(endpoint, *opened)
        except ZfsError as error:
            self._tell(problem("zfs", str(error)))
        except ZfsyncError as error:
            self._tell(problem("connection", str(error)))
        finally:
            await endpoint.close()

    @property
    def _setup(self) -> str:
        return f"zfsync key setup {shlex.quote(self._end.shown)} --job {self._job.name or 'JOB'}"

    async def _open(self, endpoint: Endpoint) -> tuple[AgentClient, Hello] | None:
        """The way there, and an agent at its end."""
        try:
            opened = await endpoint.open()
        except HostKeyError as error:
            self._tell(problem("host key", str(error), f"Or check and pin it by: {self._setup}"))
        except LoginError as error:
            own = ssh_options(self._job.connection, self._end).own_key
            remedy = f"{'Put it there' if own else 'A key for the job alone'}: {self._setup} --install"
            if self._patient.agent and not own:
                remedy = f"Your ssh-agent may have a key that is accepted, but cron has no agent. {remedy}"
            self._tell(problem("login", str(error), remedy))
        except ConnectError as error:
            self._tell(problem("connection", str(error)))
        except AgentError as error:
            self._tell(problem("agent", str(error)))
        else:
            if self._end.host:
                self._tell(host_key_check(ssh_options(self._job.connection, self._end)))
            return opened
        return None

    async def _inside(self, endpoint: Endpoint, client: AgentClient, hello: Hello) -> None:
        root, transfer = self._end.dataset, self._job.transfer
        kind = "a confined receiver" if client.confined else "the agent"
        self._tell(ok("agent", f"{kind}, zfsync {hello.version} on Python {hello.python}, at {hello.host}"))
        asked = time.time()
        about = await client.about()
        answered = time.time()
        if about is not None:
            self._tell(checks.versions(about))
        inventory = await endpoint.inventory(client, recursive=False)
        self.inventory = inventory
        retention, policy = self._job.retention, transfer.policy
        if self._receives:
            self._tell(checks.target(inventory, self._used, root=root))
            uses = target_uses(policy, prunes=retention.keep_target is not None)
        else:
            if "" not in inventory:
                self._tell(problem("source", f"There is no dataset {root}", "'zfs list' shows those there are."))
                return
            self._tell(checks.source(inventory, root, takes=retention.keep is not None))
            taken = retention.keep is not None
            uses = source_uses(policy, snapshots=taken, prunes=taken)
        wanted = checks.Wanted(
            permissions((use for use in uses if use not in DISPENSABLE), policy), permissions(uses, policy)
        )
        beside = transfer.buffer is None
        self._tell(checks.permissions(about, wanted, root, receives=self._receives, beside=beside))
        if "" in inventory or inventory.ancestors:
            properties = checks.parse_pool(await client.query(FEATURES_QUERY, [root]))
            self._tell(checks.pool(properties, root, self._encrypted, receives=self._receives))
        if about is not None:
            self._tell(checks.library(about))
        if self._end.host:
            if about is not None:
                self._tell(checks.clock(about.time, asked, answered))
            opened = await endpoint.open_many(transfer.channels)
            self._tell(checks.sessions(1 + len(opened), 1 + transfer.channels))


# ---- the key and the host's ------------------------------------------------------------------------------------------


def key_check(options: SshOptions, named: bool, setup: str) -> Check:
    """What is logged in with."""
    path = options.identity
    if path is None:
        return warning(
            "key",
            "no key of its own: it logs in with what ssh finds in ~/.ssh, for cron has no ssh-agent",
            f"A key for the job alone: {setup}" if named else "Name the job with --job, or a key with --identity.",
        )
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = public_key(path)
    except (OSError, UsageError) as error:
        return problem("key", str(error), f"Without a passphrase cron can use it: {setup}")
    whose = "the job's own key" if options.own_key else "the key"
    if mode & 0o077:
        return problem("key", f"{whose} {path} can be read by other users", f"chmod 600 {path}")
    return ok("key", f"{whose} {path}, {kind_of(key)} {fingerprint(key)}")


def host_key_check(options: SshOptions) -> Check:
    """Why the key of a host that was connected to is trusted."""
    known = known_keys(options)
    if known.pinned:
        return ok("host key", f"pinned in {keys.known_hosts()}: {_told(known.pinned)}")
    return ok("host key", f"in known_hosts: {_told(known.known)}" if known.known else "vouched for in known_hosts")


def _told(found: tuple[str, ...]) -> str:
    return ", ".join(f"{kind_of(key)} {fingerprint(key)}" for key in found)


# ---- whether it runs at all ------------------------------------------------------------------------------------------


def schedule_check(job: Job, *, root: bool, home: Path) -> Check | None:
    """Whether something starts a job that has a schedule."""
    from .crontab import Crontab
    from .state import bases
    from .systemd import unit_directory, unit_names

    if job.timing.schedule is None:
        return None
    timer = unit_names(job.name)[1]
    if (unit_directory(root=root, home=home) / timer).exists():
        return _timer_check(job, timer, user=not root)
    try:
        found = [entry for entry in Crontab().entries() if entry.job == job.name]
    except UsageError:  # there is no cron
        found = []
    if found:
        lacking = [name for name in bases() if f"{name}=" not in found[0].command]
        if lacking:
            what = f"{found[0].when}, by cron, but without your {' and '.join(lacking)}: its files are elsewhere then"
            return warning("schedule", what, f"zfsync cron install {job.name}")
        return ok("schedule", f"{found[0].when}, by cron")
    return warning(
        "schedule", f"{job.timing.schedule}, but nothing starts it", f"zfsync cron install {job.name}, or --systemd"
    )


def _timer_check(job: Job, timer: str, *, user: bool) -> Check:
    """Whether systemd will start a timer that is there, and when nobody is logged in, too."""
    from .systemctl import lingers, not_enabled

    what = f"{job.timing.schedule}, by a timer of systemd"
    try:
        why = not_enabled(timer, user=user)
        if why:
            return warning(
                "schedule", f"{what}, which is not enabled: {why}", f"zfsync cron install {job.name} --systemd"
            )
        if user and not lingers(os.getuid()):
            return warning("schedule", f"{what}, but only while you are logged in", "loginctl enable-linger")
    except UsageError as error:
        return warning("schedule", f"{what}: {error}", "Install it by cron, where systemd does not run.")
    return ok("schedule", what)
