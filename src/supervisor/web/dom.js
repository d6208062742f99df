/**
 * Elements without markup in strings: text from the pipeline can never become HTML.
 */

/** The element of that id. @param {string} id @returns {any} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/**
 * Makes an element.
 * @param {string} tag
 * @param {Record<string, string | boolean | ((event: Event) => void)>} attributes functions become listeners
 * @param {...(Node | string)} children
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Sets a text only where it changed, so that selections and screen readers are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Shows one child per item, keeping the child of an item that stays: focus and selections survive.
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Element} make
 * @param {(child: Element, item: T) => void} update
 */
export function keyed(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = before.get(key);
    if (child) before.delete(key);
    else {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of before.values()) child.remove();
}

/**
 * What a cell shows: text, or an element that is made anew only when its key changes.
 * @typedef {string | {key: string, make: () => Node}} Cell
 */

/**
 * A table that is told its rows again and again.
 * @template T
 * @param {Element} table
 * @param {{
 *   caption: string,
 *   empty: string,
 *   keyOf: (row: T) => string,
 *   columns: readonly {title: string, number?: boolean, cell: (row: T) => Cell}[],
 * }} shape
 * @returns {(rows: readonly T[]) => void}
 */
export function liveTable(table, shape) {
  const head = el(
    'tr',
    {},
    ...shape.columns.map(({ title, number }) =>
      el('th', { scope: 'col', class: number ? 'number' : '' }, title),
    ),
  );
  const body = el('tbody');
  table.append(el('caption', {}, shape.caption), el('thead', {}, head), body);
  const make = () =>
    el('tr', {}, ...shape.columns.map(({ number }) => el('td', { class: number ? 'number' : '' })));
  const update = (tr, row) => {
    for (const [index, { cell }] of shape.columns.entries()) {
      const td = tr.children[index];
      const content = cell(row);
      if (typeof content === 'string') {
        delete td.dataset.cell;
        setText(td, content);
      } else if (td.dataset.cell !== content.key) {
        td.dataset.cell = content.key;
        td.replaceChildren(content.make());
      }
    }
  };
  const emptyKey = ' empty';
  return (rows) => {
    if (rows.length > 0) return keyed(body, rows, shape.keyOf, make, update);
    const width = String(shape.columns.length);
    const says = el('td', { colspan: width }, el('span', { class: 'empty' }, shape.empty));
    const row = el('tr', {}, says);
    row.dataset.key = emptyKey;
    body.replaceChildren(row);
  };
}
