"""The reader of an entropy appliance: a process of its own that asks it over HTTPS and hands what it answers to qrngd through a FIFO.

So qrngd itself needs no network, and what speaks with the appliance holds no key and signs nothing (`proto/spec/entropy-feed.md`,
"Appliance").

    config      qrngd-reader.toml
    shapes      what is asked, and what an answer must be to count as entropy
    freshness   no block that was seen before
    client      HTTPS with a bound on every size and every wait
    pace        when to ask again
    quota       bytes of the day, kept over restarts
    output      the FIFO
    report      what it says of itself, in a file for Prometheus' node exporter
    reader      the loop
"""
