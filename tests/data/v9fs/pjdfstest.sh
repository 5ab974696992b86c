# The POSIX file system test suite. A call that never returns must end as a failure that names its test.
# It asks `which` for a program to run, and makes paths of the longest kind in a way that fails when what it begins
# with has certain lengths, that of /mnt/work among them.
printf '#!/usr/bin/bash\ntype -P "$1"\n' > /usr/bin/which
chmod 755 /usr/bin/which
mkdir suite
timeout --kill-after=10 900 pjdfstest -c /etc/pjdfstest.toml -p /mnt/work/suite > /tmp/pjdfstest.out || code=$?
cat /tmp/pjdfstest.out
grep -a 'FAILED' /tmp/pjdfstest.out >&2 || true
exit "${code:-0}"
