# The POSIX file system test suite. A call that never returns must end as a failure that names its test.
timeout --kill-after=10 900 pjdfstest -c /etc/pjdfstest.toml -p /mnt/work > /tmp/pjdfstest.out || code=$?
cat /tmp/pjdfstest.out
grep -a 'FAILED' /tmp/pjdfstest.out >&2 || true
exit "${code:-0}"
