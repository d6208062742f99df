/**
 * A drill as one HTML file: the table, and per scenario the lag over time as a chart in SVG. Needs no
 * network and no script; readable in light and dark. Pure.
 */
import type { ScenarioResult } from './drill.ts';
import type { LagSample } from './lag-watch.ts';
import { instantText } from '../../pipeline/generator/instant-text.ts';

/** What `tidemark drill --json` prints. */
export interface DrillDocument {
  readonly ok: boolean;
  /** The services, for people. */
  readonly on: string;
  readonly seconds: number;
  readonly scenarios: readonly ScenarioResult[];
}

const WIDTH = 760;
const HEIGHT = 180;
const LEFT = 64;
const TOP = 12;
const BOTTOM = 28;

const STYLE = `
:root { color-scheme: light dark; --ground: light-dark(#f5f7f9, #0d1318);
  --surface: light-dark(#fff, #151d24); --edge: light-dark(#dde3e9, #26323d);
  --text: light-dark(#17212b, #e4eaf0); --quiet: light-dark(#566473, #94a3b3);
  --gold: light-dark(#9a5b00, #fbbf24); --bronze: light-dark(#0e7490, #38bdd8);
  --good: light-dark(#15803d, #4ade80); --bad: light-dark(#b91c1c, #f87171);
  --fault: light-dark(#fdecec, #311718);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
* { box-sizing: border-box; margin: 0; }
body { background: var(--ground); color: var(--text); max-width: 860px; margin: 0 auto;
  padding: 32px 20px 64px; }
h1 { font-size: 1.5rem; letter-spacing: -.01em; } h2 { font-size: 1.1rem; }
.quiet { color: var(--quiet); } .good { color: var(--good); } .bad { color: var(--bad); }
.verdict { font-weight: 650; margin: 12px 0 24px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--edge); text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
article { background: var(--surface); border: 1px solid var(--edge); border-radius: 10px;
  padding: 16px 18px; margin-top: 20px; }
svg { width: 100%; height: auto; margin-top: 10px; display: block; }
svg text { fill: var(--quiet); font-size: 11px; } .rule { stroke: var(--edge); }
.fault { fill: var(--fault); } .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.gold { stroke: var(--gold); } .bronze { stroke: var(--bronze); }
.key { display: inline-block; width: 18px; border-top: 3px solid; vertical-align: middle; }
.key.gold { border-color: var(--gold); } .key.bronze { border-color: var(--bronze); }
ul { padding-left: 20px; } p + ul, ul + p { margin-top: 6px; }`;

/**
 * The report.
 * @param nowMs when the drill ended, milliseconds since the epoch
 */
export function drillReport(drill: DrillDocument, nowMs: number): string {
  const { ok, on, seconds, scenarios } = drill;
  const verdict = ok
    ? 'Nothing lost, nothing counted twice, back in the promised time.'
    : 'A promise was broken.';
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tidemark drill</title>
<style>${STYLE}
</style>
</head>
<body>
<h1>Tidemark drill</h1>
<p class="quiet">On ${escape(on)}, ${instantText(nowMs).slice(0, 16).replace('T', ' ')} UTC, in ${seconds.toFixed(0)} s</p>
<p class="verdict ${ok ? 'good' : 'bad'}">${verdict}</p>
<div class="wide">
<table>
<thead><tr><th>scenario</th><th>events</th><th>lost</th><th>duplicated</th><th>commits again</th><th>caught up</th><th>promised</th><th>promise</th></tr></thead>
<tbody>
${scenarios.map(tableRow).join('\n')}
</tbody>
</table>
</div>
${scenarios.map(article).join('\n')}
</body>
</html>
`;
}

function tableRow(result: ScenarioResult): string {
  const { scenario, events, lost, duplicated, recovery, promised, verdict } = result;
  const cells = [
    scenario,
    String(events),
    String(lost ?? '?'),
    String(duplicated ?? '?'),
    time(recovery.commitAgainMs),
    time(recovery.caughtUpMs),
    `${time(promised.commitAgainMs)}, ${time(promised.caughtUpMs)}`,
  ].map((cell) => `<td>${escape(cell)}</td>`);
  const mark = verdict === 'kept' ? 'good' : 'bad';
  return `<tr>${cells.join('')}<td class="${mark}">${verdict}</td></tr>`;
}

function article(result: ScenarioResult): string {
  const { scenario, breaks, problems } = result;
  const list = problems.map((problem) => `<li class="bad">${escape(problem)}</li>`).join('');
  return `<article>
<h2>${escape(scenario)}</h2>
<p class="quiet">${escape(breaks)}</p>
${list === '' ? '' : `<ul>${list}</ul>`}
${chart(result)}
<p class="quiet"><span class="key gold"></span> produced and not yet in gold
&nbsp; <span class="key bronze"></span> not yet in bronze</p>
</article>`;
}

/** Lag in records over seconds; the fault is shaded. */
function chart({ scenario, lag, fault }: ScenarioResult): string {
  const endMs = Math.max(1, lag.at(-1)?.atMs ?? 0);
  const toGold = ({ produced, gold }: LagSample): number => Math.max(0, produced - gold);
  const toBronze = ({ produced, bronze }: LagSample): number => Math.max(0, produced - bronze);
  const top = roundUp(lag.reduce((max, sample) => Math.max(max, toGold(sample)), 1));
  const x = (ms: number): string => (LEFT + (ms / endMs) * (WIDTH - LEFT)).toFixed(1);
  const y = (rows: number): string =>
    (HEIGHT - BOTTOM - (rows / top) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  const curve = (name: string, of: (sample: LagSample) => number): string => {
    const points = lag.map((sample) => `${x(sample.atMs)} ${y(of(sample))}`);
    return points.length === 0 ? '' : `<path class="curve ${name}" d="M${points.join('L')}"/>`;
  };
  const rules = [0, top / 2, top].map(
    (rows) =>
      `<line class="rule" x1="${LEFT}" x2="${WIDTH}" y1="${y(rows)}" y2="${y(rows)}"/>` +
      `<text x="${LEFT - 8}" y="${Number(y(rows)) + 4}" text-anchor="end">${rows}</text>`,
  );
  const stepMs = roundUp(endMs / 8_000) * 1_000;
  const ticks = Array.from({ length: Math.floor(endMs / stepMs) + 1 }, (_, i) => {
    const ms = i * stepMs;
    return `<text x="${x(ms)}" y="${HEIGHT - 8}" text-anchor="middle">${ms / 1000} s</text>`;
  });
  const shade = fault
    ? `<rect class="fault" x="${x(fault.brokenMs)}" y="${TOP}" height="${HEIGHT - BOTTOM - TOP}" ` +
      `width="${Math.max(2, Number(x(fault.overMs)) - Number(x(fault.brokenMs))).toFixed(1)}"/>`
    : '';
  return (
    `<svg viewBox="0 0 ${WIDTH + 20} ${HEIGHT}" role="img" ` +
    `aria-label="Lag of ${escape(scenario)}, at most ${top} records, over ${Math.round(endMs / 1000)} s">` +
    `${shade}${rules.join('')}${ticks.join('')}${curve('gold', toGold)}${curve('bronze', toBronze)}</svg>`
  );
}

/** The next of 1, 2, 5, 10, 20, … */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return power * ([1, 2, 5].find((step) => step * power >= value) ?? 10);
}

function time(ms: number | undefined): string {
  return ms === undefined ? 'never' : `${(ms / 1000).toFixed(1)} s`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
