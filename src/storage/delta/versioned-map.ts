/**
 * A map whose every version stays readable while updates cost only what they change: how a snapshot
 * of millions of files lives beside the commits that follow it. Pure data structure.
 * Source: H. Baker, "Shallow binding makes functional arrays fast" (1991).
 *
 * V1 A view never changes once made, whatever is derived from it.
 * V2 The newest view owns the entries; an older one holds the differences towards its successor, so
 *    views nobody holds any more cost nothing. Reading an older view costs the updates made since.
 * V3 A deferred view makes its entries when it is read first; until then it holds the changes.
 */

/** Values of changed keys; undefined removes a key. */
export type MapChanges<K, V> = ReadonlyMap<K, V | undefined>;

/** Either the entries (newest view) or the way to them (V2, V3). */
type Place<K, V> = Settled<K, V> | Deferred<K, V>;

type Settled<K, V> =
  | { readonly kind: 'here'; readonly entries: Map<K, V> }
  | { readonly kind: 'behind'; readonly undo: MapChanges<K, V>; readonly next: Anchor<K, V> };

interface Deferred<K, V> {
  readonly kind: 'deferred';
  /** Gives a map of its own at every call. */
  readonly load: () => Map<K, V>;
  readonly changes: readonly MapChanges<K, V>[];
}

/** Changes that a deferred view holds before it makes its entries after all. */
const DEFERRED_MAX = 256;

/** What successive views hang on to: its place changes once, when a successor takes the entries. */
interface Anchor<K, V> {
  place: Place<K, V>;
}

/** One view (V1). A value may not be undefined. */
export class VersionedMap<K, V> {
  readonly #anchor: Anchor<K, V>;
  #size: number | undefined;

  private constructor(place: Place<K, V>) {
    this.#anchor = { place };
    this.#size = place.kind === 'here' ? place.entries.size : undefined;
  }

  /** Takes ownership of `entries`; the caller must not touch them again. */
  static owning<K, V>(entries: Map<K, V>): VersionedMap<K, V> {
    return new VersionedMap({ kind: 'here', entries });
  }

  /** A view whose entries are made when they are asked for (V3). */
  static deferred<K, V>(load: () => Map<K, V>): VersionedMap<K, V> {
    return new VersionedMap({ kind: 'deferred', load, changes: [] });
  }

  get size(): number {
    this.#settle();
    return this.#size!;
  }

  get(key: K): V | undefined {
    let place = this.#settle();
    for (; place.kind === 'behind'; place = settled(place.next)) {
      if (place.undo.has(key)) return place.undo.get(key);
    }
    return place.entries.get(key);
  }

  has(key: K): boolean {
    return this.get(key) !== undefined;
  }

  /** A view with `changes` applied. From the newest view it costs the changes, from others a copy. */
  with(changes: MapChanges<K, V>): VersionedMap<K, V> {
    if (changes.size === 0) return this;
    const held = this.#anchor.place;
    if (held.kind === 'deferred' && held.changes.length < DEFERRED_MAX) {
      return new VersionedMap({ ...held, changes: [...held.changes, changes] });
    }
    const place = this.#settle();
    if (place.kind === 'behind') return VersionedMap.owning(this.toMap()).with(changes);
    const { entries } = place;
    const undo = new Map<K, V | undefined>();
    for (const [key, value] of changes) {
      undo.set(key, entries.get(key));
      if (value === undefined) entries.delete(key);
      else entries.set(key, value);
    }
    const next = VersionedMap.owning(entries);
    this.#anchor.place = { kind: 'behind', undo, next: next.#anchor };
    return next;
  }

  /** A copy of this view's entries; costs all of them. */
  toMap(): Map<K, V> {
    const undos: MapChanges<K, V>[] = [];
    let place = this.#settle();
    for (; place.kind === 'behind'; place = settled(place.next)) undos.push(place.undo);
    const entries = new Map(place.entries);
    for (const undo of undos.reverse()) {
      for (const [key, value] of undo) {
        if (value === undefined) entries.delete(key);
        else entries.set(key, value);
      }
    }
    return entries;
  }

  /** This view's values at the time of the call; costs all of them. */
  values(): V[] {
    const place = this.#settle();
    return [...(place.kind === 'here' ? place.entries : this.toMap()).values()];
  }

  #settle(): Settled<K, V> {
    const place = settled(this.#anchor);
    if (place.kind === 'here') this.#size ??= place.entries.size;
    return place;
  }
}

/** The place of a view, whose entries are made now if they were deferred (V3). */
function settled<K, V>(anchor: Anchor<K, V>): Settled<K, V> {
  const { place } = anchor;
  if (place.kind !== 'deferred') return place;
  const entries = place.load();
  for (const changes of place.changes) {
    for (const [key, value] of changes) {
      if (value === undefined) entries.delete(key);
      else entries.set(key, value);
    }
  }
  const here = { kind: 'here', entries } as const;
  anchor.place = here;
  return here;
}
