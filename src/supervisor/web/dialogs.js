/**
 * What operators can do: each change is previewed or confirmed in a dialog, and a refusal stays in it.
 */
import { change } from './api.js';
import { byId, el } from './dom.js';
import { plural } from './format.js';

for (const dialog of document.querySelectorAll('dialog')) {
  for (const button of dialog.querySelectorAll('[data-close]')) {
    button.addEventListener('click', () => dialog.close());
  }
}

let toastTimer;

/** Says what became of a change. */
export function toast(text) {
  byId('toast').textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (byId('toast').textContent = ''), 5_000);
}

/** Runs a dialog's form: closes it when `work` succeeds, else shows why not. */
async function submitting(name, event, work) {
  event.preventDefault();
  const dialog = byId(`${name}-dialog`);
  const button = dialog.querySelector('[type=submit]');
  const problem = byId(`${name}-problem`);
  problem.textContent = '';
  button.disabled = true;
  try {
    toast(await work());
    dialog.close();
  } catch (refused) {
    problem.textContent = refused.message;
  } finally {
    button.disabled = false;
  }
}

let confirmed = async () => '';

byId('confirm-form').addEventListener('submit', (event) =>
  submitting('confirm', event, () => confirmed()),
);

function confirm({ title, text, action, work }) {
  byId('confirm-title').textContent = title;
  byId('confirm-text').textContent = text;
  byId('confirm-do').textContent = action;
  byId('confirm-problem').textContent = '';
  confirmed = work;
  byId('confirm-dialog').showModal();
}

export function confirmPause() {
  confirm({
    title: 'Pause the pipeline?',
    text: 'Workers take in no new records until you resume. What they have fetched is still committed, and nothing is lost.',
    action: 'Pause',
    async work() {
      await change('POST', 'v1/pause');
      return 'The pipeline pauses.';
    },
  });
}

/** Resuming needs no second thought. */
export async function resume() {
  try {
    await change('POST', 'v1/resume');
    toast('The pipeline resumes.');
  } catch (refused) {
    toast(refused.message);
  }
}

/** @param {{id: string, units: readonly string[], isDraining: boolean}} worker */
export function confirmDrain(worker) {
  const { id, units, isDraining } = worker;
  confirm({
    title: isDraining ? `Let ${id} work again?` : `Drain ${id}?`,
    text: isDraining
      ? 'It takes its share of the units again.'
      : `It commits what it has, gives back ${plural(units.length, 'unit')} and takes no new ones. The others take over.`,
    action: isDraining ? 'End draining' : 'Drain',
    async work() {
      const path = `v1/workers/${encodeURIComponent(id)}/drain`;
      await change('POST', path, { draining: !isDraining });
      return isDraining ? `${id} takes units again.` : `${id} drains.`;
    },
  });
}

const rebalanceForm = byId('rebalance-form');
let previewNumber = 0;

export function openRebalance() {
  byId('rebalance-problem').textContent = '';
  byId('rebalance-dialog').showModal();
  void preview();
}

async function preview() {
  const number = ++previewNumber;
  const place = byId('rebalance-preview');
  place.textContent = 'Planning…';
  const strategy = new FormData(rebalanceForm).get('strategy');
  let shown;
  try {
    shown = planned(await change('POST', 'v1/rebalance', { strategy, dryRun: true }));
  } catch (refused) {
    shown = [el('p', { class: 'problem' }, refused.message)];
  }
  // An older answer must not replace a newer one.
  if (number === previewNumber) place.replaceChildren(...shown);
}

function planned({ moves, loads }) {
  if (moves.length === 0) return [el('p', {}, 'Nothing would move: the units are in balance.')];
  const loadRows = loads.map(({ worker, before, after }) =>
    el(
      'tr',
      {},
      el('td', {}, worker),
      el('td', { class: 'number' }, String(before)),
      el('td', { class: 'number' }, String(after)),
    ),
  );
  const moveRows = moves.map(({ unit, from, to }) =>
    el('tr', {}, el('td', {}, unit), el('td', {}, from ?? 'nobody'), el('td', {}, to ?? 'nobody')),
  );
  const head = (titles, align = '') =>
    el(
      'thead',
      {},
      el(
        'tr',
        {},
        ...titles.map((title, i) => el('th', { scope: 'col', class: i > 0 ? align : '' }, title)),
      ),
    );
  return [
    el('p', {}, el('strong', {}, `${plural(moves.length, 'unit')} would move.`)),
    el('table', {}, head(['Worker', 'Units now', 'Then'], 'number'), el('tbody', {}, ...loadRows)),
    el('table', {}, head(['Unit', 'From', 'To']), el('tbody', {}, ...moveRows)),
  ];
}

rebalanceForm.addEventListener('change', () => void preview());
rebalanceForm.addEventListener('submit', (event) =>
  submitting('rebalance', event, async () => {
    const strategy = new FormData(rebalanceForm).get('strategy');
    const { moves } = await change('POST', 'v1/rebalance', { strategy });
    return moves.length === 0 ? 'Nothing had to move.' : `${plural(moves.length, 'unit')} move.`;
  }),
);

let placedPartition = 0;

/**
 * @param {{partition: number, worker: string | null}} partition
 * @param {readonly {id: string, roles: readonly string[], isDraining: boolean}[]} workers
 */
export function openPlace({ partition, worker }, workers) {
  placedPartition = partition;
  byId('place-title').textContent = `Place partition ${partition}`;
  byId('place-problem').textContent = '';
  const able = workers.filter(({ roles, isDraining }) => roles.includes('worker') && !isDraining);
  byId('place-worker').replaceChildren(
    el('option', { value: '' }, 'Let the supervisor choose'),
    ...able.map(({ id }) => el('option', { value: id, selected: id === worker }, id)),
  );
  byId('place-dialog').showModal();
}

byId('place-form').addEventListener('submit', (event) =>
  submitting('place', event, async () => {
    const worker = byId('place-worker').value || null;
    await change('PUT', `v1/partitions/${placedPartition}/worker`, { worker });
    return worker === null
      ? `The supervisor places partition ${placedPartition}.`
      : `Partition ${placedPartition} goes to ${worker}.`;
  }),
);
