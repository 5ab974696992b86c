# Blocks written in random order by four jobs, each read back and compared with its checksum.
fio --name=verify --directory=. --size=16m --bs=4k-64k --numjobs=4 --rw=randrw --ioengine=psync \
  --verify=crc32c --verify_fatal=1 --do_verify=1 --fsync=32 --group_reporting --minimal > /tmp/fio.out
fio --name=append --directory=. --size=8m --bs=16k --rw=write --ioengine=psync --end_fsync=1 \
  --verify=sha256 --verify_fatal=1 --minimal >> /tmp/fio.out
echo "four jobs of 16 MiB and one of 8 MiB verified"
