/**
 * The overview of one pipeline, live: draws what the event stream says and offers operators what they
 * may do. There is no state here but the last events.
 */
import { ApiProblem, followEvents, storedToken, storeToken } from './api.js';
import { plot, sparkline } from './chart.js';
import { confirmDrain, confirmPause, openPlace, openRebalance, resume } from './dialogs.js';
import { byId, el, keyed, liveTable, setText } from './dom.js';
import {
  byteText,
  bytesParts,
  clockText,
  compact,
  count,
  instantText,
  plural,
  span,
  spanParts,
} from './format.js';

/** As many points as the server keeps. */
const SAMPLES_MAX = 450;
const ACTIVITIES_MAX = 100;
/** A stage that is behind for longer is shown as late; the verdict uses the same bound. */
const LATE_SECONDS = 60;
/** Without a reading for this long, the page says so. */
const STALE_MS = 8_000;

let status;
let workers = [];
let samples = [];
let activities = [];
let role = 'viewer';
let line = 'connecting';
let lastReadingMs;

// ---- What is drawn

const VERDICTS = {
  ok: 'All is well',
  paused: 'Paused',
  warning: 'Needs a look',
  failed: 'A part has stopped',
};

function drawVerdict() {
  const { health, findings, partitions, hops, workers: alive, supervisor, ledger } = status;
  const verdict = byId('verdict');
  verdict.dataset.health = health;
  setText(byId('verdict-title'), VERDICTS[health]);
  const behind = hops[0].behind;
  const leads = supervisor.isLeading ? `${supervisor.id} leads` : `${supervisor.id} stands by`;
  setText(
    byId('verdict-text'),
    [
      plural(partitions.length, 'partition'),
      plural(alive.alive, 'worker'),
      behind === 0 ? 'nothing behind' : `${count(behind)} records behind`,
      leads,
      ledgerText(ledger),
    ].join(' · '),
  );
  keyed(
    byId('findings'),
    findings,
    ({ severity, subject, message }) => `${severity} ${subject} ${message}`,
    ({ severity, subject, message }) =>
      el(
        'li',
        { 'data-severity': severity },
        el('span', { class: 'severity' }, severity),
        el('strong', {}, subject),
        message,
      ),
    () => {},
  );
  const title = health === 'ok' ? status.pipeline : `${VERDICTS[health]} · ${status.pipeline}`;
  document.title = `${title} · Tidemark`;
}

function ledgerText(ledger) {
  if (ledger === null) return 'the ledger is not proved yet';
  return ledger.ok
    ? `${count(ledger.records)} records proved to count exactly once`
    : 'the ledger does not add up';
}

function drawHops() {
  const { partitions, hops, tables } = status;
  const [bronze, silver, gold] = hops;
  const ends = partitions.map(({ endOffset }) => endOffset);
  const records = ends.includes(null) ? null : ends.reduce((sum, end) => sum + Number(end), 0);
  const rowsOf = (layer) =>
    tables
      .filter(({ name }) => name.startsWith(layer) && !name.endsWith('_dlq'))
      .reduce((sum, { rows }) => (sum === null || rows === null ? null : sum + rows), 0);
  const stage = (name, unit, amount, { behind, lagSeconds }, what) => ({
    name,
    amount: `${compact(amount)} ${unit}`,
    behind: behind === 0 ? 'in step' : `${what(behind)}, ${span(lagSeconds)} behind`,
    tone: behind === 0 ? 'good' : lagSeconds > LATE_SECONDS ? 'late' : 'behind',
  });
  const versions = (behind) => plural(Number(behind), 'version');
  const shown = [
    {
      name: 'Source',
      amount: `${compact(records)} records`,
      behind: plural(partitions.length, 'partition'),
      tone: 'behind',
    },
    stage('Bronze', 'rows', rowsOf('bronze.'), bronze, (behind) =>
      plural(Number(behind), 'record'),
    ),
    stage('Silver', 'events', rowsOf('silver.'), silver, versions),
    stage('Gold', 'windows', rowsOf('gold.'), gold, versions),
  ];
  keyed(
    byId('hops'),
    shown,
    ({ name }) => name,
    ({ name }) =>
      el(
        'li',
        {},
        el('p', { class: 'name' }, name),
        el('p', { class: 'amount' }),
        el('p', { class: 'behind' }),
      ),
    (item, { amount, behind, tone }) => {
      item.dataset.tone = tone;
      setText(item.children[1], amount);
      setText(item.children[2], behind);
    },
  );
}

/** Growth from sample to sample; a count that fell began anew. */
function growth(name) {
  return samples.map((sample, index) =>
    Math.max(0, sample[name] - (samples[index - 1]?.[name] ?? sample[name])),
  );
}

const TILES = [
  {
    label: 'Behind',
    value: () => [compact(samples.at(-1).lag), ''],
    points: () => samples.map(({ lag }) => lag),
  },
  {
    label: 'Delay',
    value: () => spanParts(samples.at(-1).lagSeconds),
    points: () => samples.map(({ lagSeconds }) => lagSeconds),
  },
  {
    label: 'Records in',
    value: () => [compact(status.rates.recordsPerSecond), '/s'],
    points: () => samples.map(({ recordsPerSecond }) => recordsPerSecond),
  },
  {
    label: 'Events out',
    value: () => [compact(status.rates.eventsPerSecond), '/s'],
    points: () => samples.map(({ eventsPerSecond }) => eventsPerSecond),
  },
  {
    label: 'Queue jobs',
    value: () => [compact(samples.at(-1).queueJobs), ''],
    points: () => samples.map(({ queueJobs }) => queueJobs),
  },
  {
    label: 'Late',
    value: () => [compact(status.totals.late), ''],
    points: () => growth('late'),
  },
  {
    label: 'Duplicates',
    value: () => [compact(status.totals.duplicates), ''],
    points: () => growth('duplicates'),
  },
  {
    label: 'Dead letters',
    value: () => [compact(status.totals.deadLetters), ''],
    points: () => growth('deadLetters'),
  },
  {
    label: 'Restarts',
    value: () => [compact(status.totals.restarts), ''],
    points: () => growth('restarts'),
  },
  {
    label: 'Memory',
    value: () => bytesParts(status.memory.processBytes),
    points: () => samples.map(({ memoryBytes }) => memoryBytes),
  },
].map(({ label, value, points }) => {
  const number = el('span', {}, '–');
  const unit = el('span', { class: 'unit' });
  const spark = sparkline();
  byId('tiles').append(
    el(
      'div',
      { class: 'tile' },
      el('p', { class: 'label' }, label),
      el('p', { class: 'value' }, number, unit),
      spark.element,
    ),
  );
  return () => {
    const [text, of] = value();
    setText(number, text);
    setText(unit, of);
    spark.show(
      points(),
      samples.map(({ at }) => Date.parse(at)),
    );
  };
});

const drawRates = plot(
  'chart-rate',
  [
    { label: 'records in', text: (value) => `${compact(value)}/s` },
    { label: 'events out', text: (value) => `${compact(value)}/s` },
  ],
  'Throughput per second',
);
const drawLag = plot('chart-lag', [{ label: 'records', text: compact }], 'Records behind');

function drawCharts() {
  const instants = samples.map(({ at }) => at);
  drawRates(
    [
      samples.map(({ recordsPerSecond }) => recordsPerSecond),
      samples.map(({ eventsPerSecond }) => eventsPerSecond),
    ],
    instants,
  );
  drawLag([samples.map(({ lag }) => lag)], instants);
}

const TONES = {
  running: 'good',
  paused: 'calm',
  draining: 'calm',
  drained: 'calm',
  failed: 'bad',
  starting: 'warn',
  recovering: 'warn',
  'not running': 'warn',
};

function stateCell(state, reason) {
  return {
    key: `${state} ${reason ?? ''}`,
    make: () => {
      const shown = el('span', { class: 'state', 'data-tone': TONES[state] ?? 'warn' }, state);
      return reason === null ? shown : el('div', {}, shown, el('div', { class: 'why' }, reason));
    },
  };
}

/** A button that only operators see. */
function actionCell(key, label, name, act) {
  if (role !== 'operator') return '';
  return {
    key,
    make: () => el('button', { type: 'button', 'aria-label': name, click: act }, label),
  };
}

const drawPartitions = liveTable(byId('partitions'), {
  caption: 'Partitions with their offsets, lag, watermark and worker',
  empty: 'The topic has no partitions.',
  keyOf: ({ partition }) => String(partition),
  columns: [
    { title: 'Partition', cell: ({ partition }) => String(partition) },
    { title: 'State', cell: ({ state, reason }) => stateCell(state, reason) },
    { title: 'Worker', cell: ({ worker }) => worker ?? '–' },
    { title: 'Lag', number: true, cell: ({ lag }) => count(lag) },
    { title: 'Delay', number: true, cell: ({ lagSeconds }) => span(lagSeconds) },
    { title: 'Next offset', number: true, cell: ({ nextOffset }) => count(nextOffset) },
    { title: 'End offset', number: true, cell: ({ endOffset }) => count(endOffset) },
    { title: 'Watermark', cell: ({ watermark }) => instantText(watermark) },
    {
      title: '',
      cell: ({ partition }) =>
        actionCell(`place ${partition}`, 'Place…', `Place partition ${partition}`, () => {
          openPlace(status.partitions[partition], workers);
        }),
    },
  ],
});

const drawWorkers = liveTable(byId('workers'), {
  caption: 'Workers with their units, memory and restarts',
  empty: 'No worker is alive.',
  keyOf: ({ id }) => id,
  columns: [
    { title: 'Worker', cell: ({ id }) => id },
    {
      title: 'State',
      cell: ({ isDraining, units }) =>
        stateCell(isDraining ? (units.length === 0 ? 'drained' : 'draining') : 'running', null),
    },
    { title: 'Roles', cell: ({ roles }) => roles.join(', ') },
    {
      title: 'Partitions',
      number: true,
      cell: ({ units }) => String(units.filter((unit) => unit.startsWith('partition:')).length),
    },
    {
      title: 'Writes',
      cell: ({ units }) =>
        units
          .filter((unit) => !unit.startsWith('partition:'))
          .map((unit) => unit.split(':')[0])
          .join(', ') || '–',
    },
    { title: 'Memory', number: true, cell: ({ memoryBytes }) => byteText(memoryBytes) },
    { title: 'Restarts', number: true, cell: ({ restarts }) => count(restarts) },
    { title: 'Process', cell: ({ host, pid }) => `${host}, ${pid}` },
    { title: 'Since', cell: ({ startedAt }) => instantText(startedAt) },
    {
      title: '',
      cell: ({ id, isDraining }) =>
        actionCell(
          `drain ${isDraining}`,
          isDraining ? 'End draining…' : 'Drain…',
          `${isDraining ? 'End draining' : 'Drain'} ${id}`,
          () => confirmDrain(workers.find((worker) => worker.id === id)),
        ),
    },
  ],
});

const drawTables = liveTable(byId('tables'), {
  caption: 'Delta tables with version, rows and size',
  empty: 'No table yet.',
  keyOf: ({ name }) => name,
  columns: [
    { title: 'Table', cell: ({ name }) => name },
    { title: 'Version', number: true, cell: ({ version }) => count(version) },
    { title: 'Rows', number: true, cell: ({ rows }) => count(rows) },
    { title: 'Files', number: true, cell: ({ files }) => count(files) },
    { title: 'Size', number: true, cell: ({ bytes }) => byteText(bytes) },
    { title: 'Committed', cell: ({ committedAt }) => instantText(committedAt) },
  ],
});

const drawQueues = liveTable(byId('queues'), {
  caption: 'Queues with their jobs by state',
  empty: 'The queues do not answer.',
  keyOf: ({ name }) => name,
  columns: [
    { title: 'Queue', cell: ({ name }) => name },
    { title: 'Waiting', number: true, cell: ({ waiting }) => count(waiting) },
    { title: 'Active', number: true, cell: ({ active }) => count(active) },
    { title: 'Delayed', number: true, cell: ({ delayed }) => count(delayed) },
    { title: 'Done', number: true, cell: ({ completed }) => count(completed) },
    { title: 'Failed', number: true, cell: ({ failed }) => count(failed) },
  ],
});

function drawActivity() {
  keyed(
    byId('activity'),
    activities,
    ({ number }) => String(number),
    ({ at, text, subject, outcome }) =>
      el(
        'li',
        {},
        el('time', { datetime: at, title: instantText(at) }, clockText(at)),
        el('span', { class: 'text' }, text),
        el('span', { class: 'by' }, subject ? `${subject}: ${outcome}` : ''),
      ),
    () => {},
  );
}

/** Partitions that stopped come first; the others stay where the eye expects them. */
function drawOrder(partitions) {
  const rank = ({ state }) => (state === 'failed' ? 0 : 1);
  return partitions.toSorted((a, b) => rank(a) - rank(b) || a.partition - b.partition);
}

function draw() {
  if (!status) return;
  setText(byId('pipeline-name'), status.pipeline);
  drawVerdict();
  drawHops();
  if (samples.length > 0) for (const tile of TILES) tile();
  drawCharts();
  drawPartitions(drawOrder(status.partitions));
  drawWorkers(workers);
  drawTables(status.tables);
  drawQueues(status.queues);
  setText(byId('pause'), status.isPaused ? 'Resume' : 'Pause');
}

function drawRole() {
  for (const element of document.querySelectorAll('[data-operator]')) {
    element.hidden = role !== 'operator';
  }
  byId('sign-out').hidden = storedToken() === null;
  // A link cannot carry the token.
  byId('api-link').hidden = storedToken() !== null;
}

function drawLine() {
  const silentMs = lastReadingMs === undefined ? 0 : performance.now() - lastReadingMs;
  const isStale = line === 'live' && silentMs > STALE_MS;
  byId('line').dataset.state = isStale ? 'lost' : line;
  const texts = {
    connecting: 'Connecting…',
    live: isStale ? `No reading for ${Math.round(silentMs / 1000)} s` : 'Live',
    lost: 'Connection lost; trying again',
    'signed-out': 'Not signed in',
  };
  setText(byId('line'), texts[line]);
}

// ---- What comes in

const onEvent = {
  history({ samples: past }) {
    samples = past;
  },
  status(next) {
    status = next;
    lastReadingMs = performance.now();
    const sample = sampleOf(next);
    // The history ends with the reading that comes as status right after it.
    const past = samples.at(-1)?.at === sample.at ? samples.slice(0, -1) : samples;
    samples = [...past.slice(1 - SAMPLES_MAX), sample];
    draw();
    drawLine();
  },
  workers({ workers: alive }) {
    workers = alive;
    drawWorkers(workers);
  },
  activity(activity) {
    // A supervisor that came back tells again what it kept.
    if (activities.some(({ at, text }) => at === activity.at && text === activity.text)) return;
    const number = (activities[0]?.number ?? 0) + 1;
    activities = [{ number, ...activity }, ...activities].slice(0, ACTIVITIES_MAX);
    drawActivity();
  },
};

/** The chart's point of a status, as the server makes it too. */
function sampleOf({ readAt, hops, partitions, rates, queues, totals, memory }) {
  const isEndKnown = partitions.every(({ lag }) => lag !== null);
  return {
    at: readAt,
    lag: isEndKnown ? Number(hops[0].behind) : null,
    lagSeconds: Math.max(...hops.map(({ lagSeconds }) => lagSeconds)),
    ...rates,
    queueJobs: queues.reduce((sum, q) => sum + q.waiting + q.active + q.delayed, 0),
    ...totals,
    memoryBytes: memory.processBytes,
  };
}

let following = new AbortController();

function follow() {
  following.abort();
  following = new AbortController();
  void followEvents({
    signal: following.signal,
    opened(given) {
      role = given;
      line = 'live';
      lastReadingMs = performance.now();
      drawRole();
      draw();
      drawLine();
    },
    event: (name, data) => onEvent[name]?.(data),
    lost(problem) {
      const isRefused = problem instanceof ApiProblem && problem.status === 401;
      line = isRefused ? 'signed-out' : 'lost';
      drawLine();
      if (!isRefused) return 'retry';
      askForToken();
      return 'stop';
    },
  });
}

function askForToken() {
  byId('token-problem').textContent = storedToken() === null ? '' : 'This token is not known.';
  byId('token').value = '';
  storeToken(null);
  drawRole();
  if (!byId('token-dialog').open) byId('token-dialog').showModal();
}

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  storeToken(byId('token').value.trim());
  byId('token-dialog').close();
  follow();
});
// There is nothing to see behind it.
byId('token-dialog').addEventListener('cancel', (event) => event.preventDefault());
byId('sign-out').addEventListener('click', () => {
  storeToken(null);
  location.reload();
});
byId('pause').addEventListener('click', () => (status?.isPaused ? void resume() : confirmPause()));
byId('rebalance').addEventListener('click', openRebalance);

setInterval(drawLine, 1_000);
follow();
