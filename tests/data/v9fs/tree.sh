# A part of the kernel's source unpacked, every file compared, copied with all it has, and removed.
tar --extract --file /src/tree.tar
sha256sum --quiet --check /src/tree.sums
mkdir ../copy
cp -a . ../copy/
diff -r --no-dereference . ../copy
files=$(find ../copy -type f | wc -l)
test "$files" = "$(wc -l < /src/tree.sums)"
rm -r ../copy
test ! -e ../copy
echo "$files files unpacked, compared, copied and removed"
