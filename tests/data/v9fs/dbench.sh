# What an office does with a file server, by four clients at once.
dbench -c /usr/share/dbench/client.txt -D . -t 15 4 > /tmp/dbench.out || { tail -5 /tmp/dbench.out; exit 1; }
grep -q '^Throughput' /tmp/dbench.out
grep '^Throughput' /tmp/dbench.out
