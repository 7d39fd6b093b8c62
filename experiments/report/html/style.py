"""How the page looks: narrow and wide, light and dark, on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2430; --quiet: #55606f; --line: #d9dee5; --page: #f6f7f9; --card: #fff;
  --good: #17734a; --warn: #8a5700; --bad: #b3261e; --bar: #2f5fd0; --pale: #b9caf5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6eaf0; --quiet: #a3aebd; --line: #313a47; --page: #12161c; --card: #1a2029;
    --good: #5cc990; --warn: #e4ae4b; --bad: #f28b82; --bar: #8fb0ff; --pale: #35508f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word;
}
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p { margin: .35rem 0; }
ul { margin: .35rem 0; padding-left: 1.2rem; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem;
  margin: 1rem 0;
}
.verdict { font-size: 1.1rem; }
.quiet, .lead { color: var(--quiet); font-size: .9rem; }
.lights { display: flex; flex-wrap: wrap; gap: .4rem; margin: .6rem 0; }
.badge {
  padding: 0 .6rem; border-radius: 1rem; border: 1px solid currentcolor; font-size: .875rem;
}
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.badge.quiet { color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; color: var(--quiet); }
.legend b { display: inline-block; width: 1.6rem; vertical-align: middle; margin-right: .4rem; }
.legend .always { height: 10px; background: var(--pale); }
.legend .once { height: 3px; background: var(--bar); }
.legend .zero { border-top: 2px solid var(--quiet); }
.legend .limit { border-top: 2px dashed var(--bad); }
svg.chart { display: block; margin: .5rem 0; font: 13px system-ui, sans-serif; overflow: hidden; }
svg .name { fill: var(--ink); font-weight: 600; }
svg .said, svg .tick { fill: var(--quiet); font-weight: 400; }
svg .tick { font-size: 12px; }
svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--quiet); stroke-width: 2; }
svg .limit { stroke: var(--bad); stroke-width: 2; stroke-dasharray: 5 4; }
svg .always { stroke: var(--pale); stroke-width: 10; }
svg .once { stroke: var(--bar); stroke-width: 3; }
svg .dot { fill: var(--bar); }
svg .dot.hollow { fill: var(--card); stroke: var(--bar); stroke-width: 2; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); font-size: .85rem; padding-bottom: .25rem; }
th, td {
  text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top;
}
td { min-width: 7.5rem; }
th[scope=row] { min-width: 8rem; }
thead th { color: var(--quiet); font-weight: 500; font-size: .85rem; }
th:first-child { text-align: left; padding-left: 0; font-weight: 500; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--bar); }
@media print { section { break-inside: avoid; } }
""".strip()
