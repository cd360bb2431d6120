"""The example configuration, which ``zfsync config example`` prints. It loads as it is."""

from __future__ import annotations

_EXAMPLE = """\
# zfsync's jobs: /etc/zfsync/zfsync.toml, or ~/.config/zfsync/zfsync.toml.
# Check it with 'zfsync config check'; try a job with 'zfsync cron run web', and install it with 'zfsync cron install
# web'. Only its owner may be able to write this file, because hooks are commands.

[job.web]
source = "tank/web"                     # [[USER@]HOST:]DATASET, with all datasets below it
target = "backup:pool/web"              # or several: ["backup:pool/web", "zfsync@elsewhere:tank/web", "usb/web"]
schedule = "every 15m"                  # hourly, daily, ..., or a crontab's five fields: "7,37 * * * *"

# How many snapshots of each class stay. A snapshot has the highest class that is due when it is taken. It counts as the
# highest class that is named here and not above its own; what is below all of these goes. Held snapshots, the newest
# one that the target has too, and those with other names than 20210127-0636_M always stay. Without keep none are taken.
keep = "minutely=4,hourly=24,daily=30,weekly=8,monthly=12,yearly=2,within=48h"
keep-target = "daily=90,weekly=52,monthly=36,yearly=10"
keep-at-least = 3                       # the newest so many of each dataset stay in any case, on either side
skip-unwritten = true                   # no snapshot when nothing was written since the last one
#local-time = true                      # names in local time, not in UTC

# What takes part: globs, in which * stands for anything, or regular expressions after "re:".
exclude = ["tmp", "*/cache", "re:scratch[0-9]+"]
#include = ["home"]
#snapshots = ["*"]
#exclude-snapshots = ["re:.*_M"]
#no-intermediates = true
#latest = 100
#since = "90d"
#skip-empty = true
#no-recursive = true

# How it is sent. These are the options of 'zfsync push', which 'zfsync push --help' explains.
channels = 4
#rate-limit = "50M"                     # bytes per second
#compress = "auto"
#stall-timeout = "10m"                  # a stream that stands still for so long is ended; "0s": never
#no-resume = true
#no-raw = true
#no-hold = true
#no-bookmark = true
#skip-preflight = true
#on-divergence = "fail"                 # or set-aside, rollback, replace
#no-follow-renames = true
#delete-snapshots = true                # instead of keep-target: no longer than the source
#delete-datasets = "30d"
#preserve = ["compression", "recordsize"]
#set = ["atime=off"]
#exclude-property = ["quota"]
#inherit-encryption-root = true
#buffer = "pool/web.zfsyncbuffer"
#buffer-behind = "64M"                  # what is below a larger new dataset does not wait for it

# The way there. Without these, ssh's own configuration counts, and the key that 'zfsync key setup' made for the job.
#identity = "~/.ssh/zfsync_web"
#port = 22
#ssh-config = "~/.ssh/config"
#remote-python = "/usr/local/bin/python3"
#sudo = true

# When something is in the way.
jitter = "30s"                          # begin up to this much later, so that not all hosts do at once
wait = "10m"                            # for another run of this job; else it ends with exit code 4
retry-for = "5m"                        # try again for so long when the host cannot be reached

# Where it is told. Without either, only failures are, on standard error: cron sends them by mail.
#log-file = "/var/log/zfsync.log"
#syslog = true

# Commands at certain points, as lists of words; no shell is in between. When a before_... fails, what it comes before
# is not done; the after_... are run in any case. Their environment has ZFSYNC_JOB, _HOOK, _SOURCE, _TARGET, _SNAPSHOT,
# _EXIT_CODE and _MESSAGE.
[job.web.hooks]
#before_snapshot = ["/usr/sbin/runuser", "-u", "postgres", "--", "psql", "-c", "CHECKPOINT"]
#after_snapshot = ["/usr/local/bin/thaw"]
#before_push = ["/usr/local/bin/wake", "backup"]
#after_push = ["/usr/local/bin/sleep", "backup"]
#on_failure = ["/usr/local/bin/page-me"]
timeout = "2m"                          # of each; then it is ended, with all that it started
"""


def example() -> str:
    """A configuration with every key, commented."""
    return _EXAMPLE
