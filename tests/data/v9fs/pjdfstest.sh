# The POSIX file system test suite.
pjdfstest -c /etc/pjdfstest.toml -p /mnt/work > /tmp/pjdfstest.out || code=$?
cat /tmp/pjdfstest.out
grep -a 'FAILED' /tmp/pjdfstest.out >&2 || true
exit "${code:-0}"
