"""The report's style sheet: system fonts, light and dark, colours that differ in lightness as well as in hue."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{--page:#f6f7f9;--card:#fff;--text:#1b1f24;--dim:#5c6670;--rule:#e1e5ea;
--s0:#2f7d57;--s1:#b3701b;--s2:#b3392f;
--l0:#1b1f24;--l1:#3d6fb8;--l2:#c2578f;--l3:#2a9aa8;--l4:#7a52a8;--l5:#8a7a2c}
@media (prefers-color-scheme:dark){:root{--page:#14171a;--card:#1d2125;--text:#e7eaed;--dim:#98a2ad;--rule:#30363d;
--s0:#5fb98a;--s1:#e8b05c;--s2:#ec7468;
--l0:#e7eaed;--l1:#7ba9ea;--l2:#ea8fbd;--l3:#5cc8d4;--l4:#b493e0;--l5:#cdbb63}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1360px;margin:0 auto;padding:28px 24px 48px}
h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}
header p{margin:0 0 20px;color:var(--dim);overflow-wrap:anywhere}
.tiles{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));margin-bottom:12px}
.tiles div,.grid section,details{background:var(--card);border:1px solid var(--rule);border-radius:10px;
padding:14px 16px}
.tiles h2,.grid h2{font-size:13px;font-weight:600;color:var(--dim);margin:0 0 4px}
.tiles strong{display:block;font-size:27px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tiles span{color:var(--dim);font-size:13px}
.grid{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));margin-bottom:12px}
.grid h2{margin-bottom:10px}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--text);font-size:12.5px}
svg .axis,svg .value{fill:var(--dim);font-size:11.5px;font-variant-numeric:tabular-nums}
svg .end{text-anchor:end} svg .middle{text-anchor:middle}
svg line.grid{stroke:var(--rule);stroke-width:1}
svg .hit{fill:transparent}
svg .s0{fill:var(--s0)} svg .s1{fill:var(--s1)} svg .s2{fill:var(--s2)}
svg .l0{fill:var(--l0)} svg .l1{fill:var(--l1)} svg .l2{fill:var(--l2)}
svg .l3{fill:var(--l3)} svg .l4{fill:var(--l4)} svg .l5{fill:var(--l5)}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round}
svg .line.l0{stroke:var(--l0)} svg .line.l1{stroke:var(--l1)} svg .line.l2{stroke:var(--l2)}
svg .line.l3{stroke:var(--l3)} svg .line.l4{stroke:var(--l4)} svg .line.l5{stroke:var(--l5)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:8px 0 0;padding:0;
color:var(--dim);font-size:13px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
.legend .s0{background:var(--s0)} .legend .s1{background:var(--s1)} .legend .s2{background:var(--s2)}
.legend .l0{background:var(--l0)} .legend .l1{background:var(--l1)} .legend .l2{background:var(--l2)}
.legend .l3{background:var(--l3)} .legend .l4{background:var(--l4)} .legend .l5{background:var(--l5)}
details{margin-top:12px} summary{cursor:pointer;font-weight:600}
.scroll{overflow:auto;max-height:70vh;margin-top:10px}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th,td{padding:6px 10px;border-bottom:1px solid var(--rule);text-align:left;white-space:nowrap}
th{color:var(--dim);font-weight:600;position:sticky;top:0;background:var(--card)}
.n{text-align:right;font-variant-numeric:tabular-nums}
.empty{color:var(--dim)}
@media print{body{background:#fff}.grid section,.tiles div{break-inside:avoid}}
""".strip()
