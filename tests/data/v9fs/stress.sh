# stress-ng's file tests, each for a number of rounds and with its own checks, as root and on one directory.
# Left out: leases, fanotify, file flags, fallocate and dnotify, which v9fs has not; what only fills the disk; and mappings that a
# mount without a write cache has not.
failed=
for test in access chdir chmod chown copy-file dentry dir dup fcntl fiemap filename flock fpunch fsize \
  fstat getdent handle hdd inode-flags io iomix link locka lockf lockofd metamix mknod open rename rawdev readahead \
  seek sendfile splice symlink sync-file touch truncate unlink utime vm-splice xattr; do
  mkdir "$test"
  # By rounds, not by time: a slow machine does the same work. The limit only ends what hangs.
  if timeout --kill-after=5 60 stress-ng --temp-path "./$test" --verify --quiet "--$test" 1 "--$test-ops" 20 \
    > /tmp/stress.out 2>&1; then
    done="${done:-} $test"
  else
    status=$?
    # 3: not possible here, 4: not implemented.
    case $status in
      3|4) left="${left:-} $test" ;;
      *) failed="$failed $test"; echo "$test ($status)"; tail -n 3 /tmp/stress.out ;;
    esac
  fi
  rm -rf "$test"
done
echo "not possible: ${left:-none}"
if [ -n "$failed" ]; then echo "failed:$failed" >&2; exit 1; fi
echo "$(echo $done | wc -w) tests of files"
