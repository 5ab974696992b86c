# A repository's life: many small files, packs that are mapped, locks by O_EXCL, renames over.
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
git init --quiet -b main repo
cd repo
tar --extract --file /src/tree.tar -C . ./scripts
git add .
git commit --quiet -m first
for n in 1 2 3 4 5; do
  echo "change $n" >> scripts/Makefile
  git commit --quiet -a -m "change $n"
done
git checkout --quiet -b side HEAD~3
git mv scripts moved
git commit --quiet -m moved
git merge --quiet -m merged main
git gc --quiet
git fsck --full --strict
test -z "$(git status --porcelain)"
cd ..
git clone --quiet --no-local repo copy
diff -r --no-dereference --exclude=.git repo copy
test "$(git -C copy rev-parse HEAD)" = "$(git -C repo rev-parse HEAD)"
echo "$(git -C copy rev-list --count HEAD) commits, $(git -C copy ls-files | wc -l) files, cloned and equal"
