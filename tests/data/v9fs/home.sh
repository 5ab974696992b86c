# A person's home on the share: what a login, a shell, keys, version control and programs' settings leave in one.
# The person is root, whom this mount's files belong to; other owners are the business of the relay of `goblin mount`.
umask 022
mkdir -m 700 home
export HOME=/mnt/work/home
cd
echo 'export SEEN=1' > .profile
echo 'HISTFILE=~/.history' > .bashrc
bash --login -c 'test "$SEEN" = 1'
bash --rcfile .bashrc -i -c 'history -s one; history -a' 2> /dev/null
grep -qx one .history
# A private key is refused by what uses it unless nobody else can read it.
mkdir -m 700 .ssh
(umask 077; head -c 400 /dev/urandom > .ssh/key)
test "$(stat -c %a .ssh/key)" = 600
test "$(stat -c %a .)" = 700
git config --global user.name tests
git config --global user.email tests@example.org
test "$(git config --global user.name)" = tests
git init --quiet -b main work
echo text > work/file
git -C work add file
git -C work commit --quiet -m first
# Settings are replaced by renaming over them; who has the old ones open goes on reading those.
echo old > .settings
exec 3< .settings
echo new > .settings.part
mv .settings.part .settings
test "$(cat <&3)$(cat .settings)" = oldnew
exec 3<&-
# Locks, and a pipe with a name.
exec 4> .lock
flock --nonblock 4
if flock --nonblock .lock true; then echo "a lock was given twice" >&2; exit 1; fi
exec 4>&-
flock --nonblock .lock true
mkfifo pipe
echo through > pipe &
test "$(cat pipe)" = through
wait
sqlite3 .places.sqlite 'create table t(a); insert into t values(1); select a from t;' > /dev/null
mkdir -p .cache/deep/er/still
ln -s .cache link
touch "link/deep/$(printf 'n%.0s' $(seq 240))"
rm -r .cache/deep
test -L link
# Nobody else gets in.
if setpriv --reuid=1001 --regid=1001 --clear-groups cat "$HOME/.settings" 2> /dev/null; then
  echo "another user reads a home of mode 700" >&2
  exit 1
fi
echo "a home of $(find . | wc -l) entries"
