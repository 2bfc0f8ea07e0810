"""How fast tpio is, beside what else a program could use: `python dev.py bench --help`.

rows.py     what is measured: workloads with their parameters
peers/      who does it: each peer has a method for each workload that it can do
floor/      the same workloads in plain C on the same API of Windows
harness.py  peers take turns; what comes out is compared within each turn
report.py   tables and JSON
plot.py     bars, as SVG
"""
