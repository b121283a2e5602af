# SPDX-License-Identifier: MIT
"""The look of report.py's page, light and dark."""

PAGE_STYLE = """
:root { --page: #ffffff; --ink: #1b1f24; --soft: #59636e; --rule: #d8dee4; --own: #0a5fc2; --other: #6b7580;
  --good: #116b2f; --bad: #b42318; --good-back: #e3f5e8; --bad-back: #fdeae7;
  --c0: #4b5563; --c1: #0a5fc2; --c2: #0b7c86; --c3: #7a4fc9; --c4: #b45309; --c5: #be185d; --c6: #3f7d20; --c7: #8a6d00; --c8: #111111; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161b; --ink: #e4e9ee; --soft: #a0abb6; --rule: #333c46; --own: #6cb2ff; --other: #a3adb8;
  --good: #6bd389; --bad: #ff8f80; --good-back: #17331f; --bad-back: #431d19;
  --c0: #b4bdc7; --c1: #6cb2ff; --c2: #4fd1d9; --c3: #bb9bff; --c4: #f5a94d; --c5: #ff85b8; --c6: #93d26b; --c7: #e3c94d; --c8: #ffffff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 980px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 8px; }
h2 { font-size: 21px; margin: 44px 0 4px; padding-top: 14px; border-top: 2px solid var(--rule); }
h3 { font-size: 16px; margin: 28px 0 2px; } p { margin: 4px 0 10px; } .soft { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 10px 0; }
dt { color: var(--soft); } dd { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13.5px; margin: 6px 0 14px; }
th, td { padding: 3px 14px 3px 0; text-align: left; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } .n { text-align: right; font-variant-numeric: tabular-nums; }
.targets td:first-child, .targets td:nth-child(2) { white-space: normal; }
.own td:first-child { color: var(--own); font-weight: 600; }
.mark { padding: 1px 7px; border-radius: 9px; font-weight: 600; font-size: 12.5px; white-space: nowrap; }
.mark.good { color: var(--good); background: var(--good-back); } .mark.bad { color: var(--bad); background: var(--bad-back); }
svg { width: 100%; height: auto; display: block; margin: 8px 0 4px; } svg text { font-size: 12px; fill: var(--ink); }
svg .tick, svg .title { fill: var(--soft); } svg .title { font-weight: 600; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--soft); }
svg text.own { fill: var(--own); font-weight: 600; }
svg circle.own { fill: var(--own); } svg circle.other { fill: var(--other); }
svg .stem { stroke-width: 2; opacity: .55; } svg .stem.own { stroke: var(--own); } svg .stem.other { stroke: var(--other); }
svg .limit { stroke-width: 2.5; } svg .limit.good { stroke: var(--good); } svg .limit.bad { stroke: var(--bad); }
svg .line.mine, svg .leader.mine { stroke: var(--own); } svg .line.mine { stroke-width: 3.6; } svg text.mine, svg circle.mine { fill: var(--own); }
svg .line.tagged { stroke-width: 2.4; stroke-dasharray: 9 3; } svg .line.single { stroke-width: 2.4; stroke-dasharray: 3 3; }
svg .line.base, svg .leader.base { stroke: var(--ink); } svg .line.base { stroke-width: 3.6; } svg text.base, svg circle.base { fill: var(--ink); }
svg .line.published, svg .leader.published { stroke: var(--other); stroke-dasharray: 7 5; } svg text.published, svg circle.published { fill: var(--other); }
svg .line.thin { stroke-width: 1.4; opacity: .75; } svg .line.dotted { stroke-dasharray: 2 3; } svg .name.thin { font-weight: 400; }
.good-text { color: var(--good); } .bad-text { color: var(--bad); } h4 { font-size: 14.5px; margin: 18px 0 2px; }
svg .line { fill: none; stroke-width: 2.2; } svg .leader { stroke-width: 1; opacity: .7; } svg .name { font-weight: 600; }
"""
SERIES_STYLE = """svg .line.c{i}, svg .leader.c{i} {{ stroke: var(--c{i}); }}
svg circle.c{i}, svg text.c{i} {{ fill: var(--c{i}); }}
"""
STYLE = PAGE_STYLE + "".join(SERIES_STYLE.format(i=i) for i in range(9))
