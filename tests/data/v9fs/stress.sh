# stress-ng's file tests, each for a number of rounds and with its own checks, as root and on one directory.
# Left out: leases, fanotify, file flags, fallocate and dnotify, which v9fs has not; fsize, which wants the server's "file too
# large" and is told of an input/output error by v9fs; what only fills the disk; mappings that a mount without a write cache
# has not; and fpunch, fstat, iomix and sync-file, of which an emulated guest does not end one round in a minute.
failed=
# A round of these is thousands of files or requests.
heavy=" chdir dentry filename io link readahead symlink unlink xattr "
for test in access chdir chmod chown copy-file dentry dir dup fcntl fiemap filename flock \
  getdent handle hdd inode-flags io link locka lockf lockofd metamix mknod open rename rawdev readahead \
  seek sendfile splice symlink touch unlink utime vm-splice xattr; do
  mkdir "$test"
  case "$heavy" in *" $test "*) rounds=1 ;; *) rounds=20 ;; esac
  # By rounds, not by time: a slow machine does the same work. The limit only ends what hangs.
  if timeout --kill-after=5 300 stress-ng --temp-path "./$test" --verify --quiet "--$test" 1 "--$test-ops" "$rounds" \
    --chdir-dirs 64 --dentries 128 --filename-opts posix \
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
