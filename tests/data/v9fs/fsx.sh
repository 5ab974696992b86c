# Random reads, writes, truncations and mappings of one file, each compared with what it must hold.
# A mount without a write cache has no shared writable mappings (v9fs: generic_file_readonly_mmap), which fsx makes for
# reads and for `msync(MS_INVALIDATE)`, too.
mapwrite=0 mapread=0 invalidate=0
case $cache in mmap|loose) mapwrite=3 mapread=3 invalidate=1 ;; esac
cat > /tmp/fsx.toml <<TOML
flen = 262144
[weights]
close_open = 1
invalidate = $invalidate
mapread = $mapread
mapwrite = $mapwrite
read = 10
write = 10
truncate = 5
fsync = 0.5
fdatasync = 0.5
sendfile = 1
posix_fadvise = 1
copy_file_range = 1
TOML
for seed in 1 2 3; do
  fsx -f /tmp/fsx.toml -N 2000 -S "$seed" -P /tmp "file$seed"
done
echo "6000 operations of three seeds"
