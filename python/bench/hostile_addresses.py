"""Addresses inside, as people write them who want a server to call them."""

# Ways to write, hide or reach an address inside. {p} is the port of a listener on the loopback interface.
FORMS = [
    "http://127.0.0.1:{p}/", "http://127.0.0.2:{p}/", "http://127.255.255.254:{p}/", "http://localhost:{p}/",
    "http://LOCALHOST:{p}/", "http://localhost.:{p}/", "http://127.1:{p}/", "http://127.0.1:{p}/", "http://0:{p}/",
    "http://0.0.0.0:{p}/", "http://2130706433:{p}/", "http://0x7f000001:{p}/", "http://0x7f.0.0.1:{p}/",
    "http://0x7f.1:{p}/", "http://0177.0.0.1:{p}/", "http://017700000001:{p}/", "http://0177.1:{p}/",
    "http://127.0.0.1.:{p}/", "http://[::1]:{p}/", "http://[::]:{p}/", "http://[::ffff:127.0.0.1]:{p}/",
    "http://[::ffff:7f00:1]:{p}/", "http://[0:0:0:0:0:ffff:127.0.0.1]:{p}/", "http://[::127.0.0.1]:{p}/",
    "http://[64:ff9b::127.0.0.1]:{p}/", "http://[64:ff9b::7f00:1]:{p}/", "http://[2002:7f00:1::]:{p}/",
    "http://[2001:0:7f00:1::]:{p}/", "http://[fe80::1]:{p}/", "http://[fe80::1%25lo]:{p}/", "http://[fc00::1]:{p}/",
    "http://[fd00:ec2::254]:{p}/", "http://[ff02::1]:{p}/", "http://10.0.0.1:{p}/", "http://10.255.255.255:{p}/",
    "http://172.16.0.1:{p}/", "http://172.31.255.255:{p}/", "http://192.168.0.1:{p}/", "http://169.254.169.254/",
    "http://169.254.169.254:{p}/latest/meta-data/", "http://100.64.0.1:{p}/", "http://100.100.100.200:{p}/",
    "http://168.63.129.16:{p}/", "http://192.0.0.8:{p}/", "http://192.0.0.192:{p}/", "http://198.18.0.1:{p}/",
    "http://224.0.0.1:{p}/", "http://240.0.0.1:{p}/", "http://255.255.255.255:{p}/", "http://0.1.2.3:{p}/",
    "http://user:pw@127.0.0.1:{p}/", "http://example.com@127.0.0.1:{p}/", "http://127.0.0.1:{p}#@example.com/",
    "http://127.0.0.1:{p}?x=example.com", "http://①②⑦.⓪.⓪.①:{p}/", "http://127。0。0。1:{p}/", "http://ⓛocalhost:{p}/",
    "http:///127.0.0.1:{p}/", "http://127.0.0.1\\@example.com:{p}/", "file:///etc/passwd", "gopher://127.0.0.1:{p}/",
    "ftp://127.0.0.1:{p}/", "dict://127.0.0.1:{p}/", "unix:///var/run/docker.sock", "//127.0.0.1:{p}/", "http://:{p}/",
    "http://127.0.0.1:{p}\r\nHost: example.com/", "http://localhost%00.example.com:{p}/", "http://ip6-localhost:{p}/",
]  # fmt: skip
