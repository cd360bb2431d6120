"""Compressed streams and limited rates, on real ZFS: contents compared, bytes on the wire counted."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Run, Running, World
from tests.lab.driver import Machine

MEBIBYTE = 1 << 20
FILTERS = ("zstd", "lz4")


def write_text(machine: Machine, path: str, mebibytes: int) -> None:
    """Numbers in words of text: less than half of it is left after any compression."""
    machine.sh(f"head -c {mebibytes}M > '{path}' < <(seq -f 'line %.0f of a file that is compressible' 1 100000000)")


def plain(world: World, mebibytes: int = 12) -> None:
    """A tree with a dataset, and a volume, that ZFS does not compress, and one that it does."""
    world.create("/plain", "-o", "compression=off")
    world.create("/packed")
    for child in ("/plain", "/packed"):
        write_text(world.sender, f"/{world.source}{child}/text", mebibytes)
    world.snapshot("1")


def half_done(world: World, name: str) -> Running:
    """A push of what no filter makes very small, compressed by ``name``, with 6 MiB of it on their way."""
    for child in ("/plain", "/other"):
        world.create(child, "-o", "compression=off")
    world.snapshot("1")
    assert world.push().status == 0
    world.sender.sh(f"head -c 60M > '/{world.source}/plain/letters' < <(base64 /dev/urandom)")
    world.write("/other", 100)
    world.snapshot("2")
    running = world.start("--compress", name, "--rate-limit", "8M")
    running.wait_for_bytes(6 * MEBIBYTE)
    return running


def bytes_of(run: Run, name: str) -> int:
    assert run.status == 0, run
    count: int = run.outcomes[name]["bytes"]
    return count


@pytest.mark.parametrize("name", [*FILTERS, "auto"])
def test_only_what_zfs_does_not_compress_is_compressed_on_its_way(world: World, name: str) -> None:
    plain(world)
    world.create("/v", "-V", "8M", "-o", "compression=off")
    world.snapshot("2")
    first = world.push("--json", "--compress", name)
    assert bytes_of(first, f"{world.source}/plain") < 6 * MEBIBYTE
    assert bytes_of(first, f"{world.source}/v") < MEBIBYTE
    world.assert_equal()

    write_text(world.sender, f"/{world.source}/plain/more", 4)
    world.snapshot("3")
    second = world.push("--json", "--compress", name)
    assert bytes_of(second, f"{world.source}/plain") < 2 * MEBIBYTE
    world.assert_equal()


def test_by_default_nothing_is_compressed_on_its_way(world: World) -> None:
    plain(world)
    run = world.push("--json")
    assert bytes_of(run, f"{world.source}/plain") > 12 * MEBIBYTE
    assert bytes_of(run, f"{world.source}/packed") < 6 * MEBIBYTE  # as it lies on disk
    world.assert_equal()


def test_raw_streams_are_left_as_they_are(world: World) -> None:
    world.sender.sh("echo 'a passphrase' > /root/key")
    keys = ("-o", "encryption=on", "-o", "keyformat=passphrase", "-o", "keylocation=file:///root/key")
    world.create("/secret", *keys, "-o", "compression=off")
    write_text(world.sender, f"/{world.source}/secret/text", 4)
    world.snapshot("1")
    run = world.push("--json", "--compress", "zstd")
    assert bytes_of(run, f"{world.source}/secret") > 4 * MEBIBYTE
    assert world.get("keystatus", "/secret") == "unavailable"
    world.assert_tidy()


@pytest.mark.parametrize("name", FILTERS)
def test_a_pull_is_compressed_at_the_other_end(world: World, name: str) -> None:
    source, target = f"{world.above}/web", f"{world.source}/pulled"
    world.receiver.run(["zfs", "create", "-o", "compression=off", source])
    write_text(world.receiver, f"/{source}/text", 12)
    world.receiver.run(["zfs", "snapshot", f"{source}@1"])
    where = f"{world.receiver.ssh_host}:{source}"
    words = ["zfsync", "pull", "--json", "--compress", name, "--port", str(world.receiver.ssh_port), where, target]
    assert bytes_of(world.run(words), where) < 6 * MEBIBYTE
    assert world.digest(world.sender, target) == world.digest(world.receiver, source)
    world.target = source
    world.assert_tidy()


@pytest.mark.parametrize("name", FILTERS)
def test_a_relayed_stream_is_compressed_all_the_way(world: World, name: str) -> None:
    source, target = f"{world.above}/web", f"{world.above}/copy"
    world.receiver.run(["zfs", "create", "-o", "compression=off", source])
    write_text(world.receiver, f"/{source}/text", 12)
    world.receiver.run(["zfs", "snapshot", f"{source}@1"])
    host = world.receiver.ssh_host
    options = ("--json", "--compress", name, "--rate-limit", "8M", "--port", str(world.receiver.ssh_port))
    run = world.run(["zfsync", "push", *options, f"{host}:{source}", f"{host}:{target}"])
    assert bytes_of(run, f"{host}:{source}") < 6 * MEBIBYTE
    assert world.digest(world.receiver, target) == world.digest(world.receiver, source)
    world.target = source
    world.assert_tidy()


@pytest.mark.parametrize("name", FILTERS)
def test_an_interrupted_compressed_transfer_resumes(world: World, name: str) -> None:
    running = half_done(world, name)
    running.signal("INT")
    assert running.wait().status == 130
    world.assert_tidy(partial=True)
    run = world.push("--json", "--compress", name)
    assert run.status == 0, run
    assert run.outcomes[f"{world.source}/plain"]["what"] == "resume -> @2"
    world.assert_equal()


@pytest.mark.parametrize("name", FILTERS)
def test_a_killed_decompressor_fails_its_dataset_and_the_next_run_is_clean(world: World, name: str) -> None:
    running = half_done(world, name)
    world.receiver.sh(f"pkill -KILL -x {name}")
    run = running.wait()
    assert run.status == 3, run
    failed = run.outcomes[f"{world.source}/plain"]
    assert failed["code"] == "filter"
    assert f"{name}, which the stream goes through, failed: killed by signal 9" in failed["message"]
    assert run.outcomes[f"{world.source}/other"]["status"] == "sent"
    again = world.push("--json", "--compress", name)
    assert again.status == 0, again
    assert again.outcomes[f"{world.source}/plain"]["what"] == "resume -> @2"
    world.assert_equal()


def test_a_killed_compressor_fails_its_dataset_and_the_next_run_is_clean(world: World) -> None:
    running = half_done(world, "zstd")
    world.sender.sh("pkill -KILL -x zstd")
    run = running.wait()
    assert run.status == 3, run
    failed = run.outcomes[f"{world.source}/plain"]
    assert failed["code"] == "source"
    assert "zstd, which the stream goes through, failed: killed by signal 9" in failed["message"]
    assert world.push("--compress", "zstd").status == 0
    world.assert_equal()


def test_a_program_that_an_end_lacks_is_said_before_anything_is_sent(world: World) -> None:
    plain(world, 1)
    path = world.receiver.sh("command -v lz4").stdout.strip()
    world.receiver.sh(f"mv {path} {path}.hidden")
    try:
        run = world.push("--compress", "lz4")
    finally:
        world.receiver.sh(f"mv {path}.hidden {path}")
    assert run.status == 2
    assert f"There is no program lz4 on {world.receiver.ssh_host}" in run.err
    assert world.snapshots() == []
    world.assert_tidy()


def test_all_channels_together_keep_the_limit(world: World) -> None:
    """By what --json tells: from any moment to any later one no more than the rate and one burst."""
    rate, burst = 4 * MEBIBYTE, MEBIBYTE
    for child in ("/a", "/b", "/c"):
        world.create(child)
        world.write(child, 6000)
    world.snapshot("1")
    run = world.push("--json", "--channels", "3", "--rate-limit", "4M")
    assert run.status == 0, run
    current: dict[int, int] = {}
    settled = 0
    samples: list[tuple[float, int]] = []
    for event in run.events:
        if event["event"] == "progress":
            current[event["channel"]] = event["bytes"]
        elif event["event"] == "send-ended":
            settled += current.pop(event["channel"], 0)
        samples.append((event["time"], settled + sum(current.values())))
    assert samples[-1][1] > 9 * MEBIBYTE
    late = 0.5  # seconds that one event may be told later than another
    for index, (since, before) in enumerate(samples):
        for now, count in samples[index + 1 :]:
            assert count - before <= rate * (now - since + late) + burst
    assert samples[-1][0] - samples[0][0] >= (samples[-1][1] - burst) / rate
    world.assert_equal()
