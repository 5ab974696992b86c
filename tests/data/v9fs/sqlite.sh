# A database with a rollback journal at work, cut short once, read by two processes at once, and found whole.
# Its write-ahead log needs shared writable mappings, which only some cache modes have.
sql() { sqlite3 -batch -bail -cmd '.timeout 20000' db "$@"; }
sql 'create table t(id integer primary key, text, n int); create index i on t(n);'
for turn in 1 2 3 4 5; do
  sql "begin; with recursive c(x) as (select 1 union all select x + 1 from c where x < 2000)
       insert into t(text, n) select hex(randomblob(40)), x % 97 from c; commit;"
  sql 'begin; update t set n = n + 1 where id % 5 = 0; rollback;' 
done
sql 'delete from t where n = 13; vacuum;'
( for k in $(seq 20); do sql "insert into t(text, n) values('first', $k);"; done ) &
first=$!
for k in $(seq 20); do sql "insert into t(text, n) values('second', $k);"; done
wait $first
# A writer that is killed in a transaction leaves a journal; the next one rolls it back.
( { echo 'begin immediate; delete from t;'; sleep 30; } | sqlite3 -batch db ) & victim=$!
sleep 2
pkill -9 -P $victim 2>/dev/null || kill -9 $victim
test "$(sql 'pragma integrity_check;')" = ok
test "$(sql "select count(*) from t where text in ('first', 'second');")" = 40
echo "$(sql 'select count(*) from t;') rows, whole"
