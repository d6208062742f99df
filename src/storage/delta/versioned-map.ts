/**
 * A map whose every version stays readable while updates cost only what they change: how a snapshot
 * of millions of files lives beside the commits that follow it. Pure data structure.
 * Source: H. Baker, "Shallow binding makes functional arrays fast" (1991).
 *
 * V1 A view never changes once made, whatever is derived from it.
 * V2 The newest view owns the entries; an older one holds the differences towards its successor, so
 *    views nobody holds any more cost nothing. Reading an older view costs the updates made since.
 */

/** Values of changed keys; undefined removes a key. */
export type MapChanges<K, V> = ReadonlyMap<K, V | undefined>;

export class VersionedMap<K, V> {
  readonly size: number;
  /** Either the entries (newest view) or the way to them (V2). */
  #place:
    | { readonly kind: 'here'; readonly entries: Map<K, V> }
    | { readonly kind: 'behind'; readonly undo: MapChanges<K, V>; readonly next: VersionedMap<K, V> };

  private constructor(entries: Map<K, V>) {
    this.size = entries.size;
    this.#place = { kind: 'here', entries };
  }

  /** Takes ownership of `entries`; the caller must not touch them again. */
  static owning<K, V>(entries: Map<K, V>): VersionedMap<K, V> {
    return new VersionedMap(entries);
  }

  get(key: K): V | undefined {
    let view: VersionedMap<K, V> = this;
    for (;;) {
      const place = view.#place;
      if (place.kind === 'here') return place.entries.get(key);
      if (place.undo.has(key)) return place.undo.get(key);
      view = place.next;
    }
  }

  has(key: K): boolean {
    return this.get(key) !== undefined;
  }

  /** A view with `changes` applied. From the newest view it costs the changes, from others a copy. */
  with(changes: MapChanges<K, V>): VersionedMap<K, V> {
    if (changes.size === 0) return this;
    if (this.#place.kind !== 'here') return new VersionedMap(this.toMap()).with(changes);
    const { entries } = this.#place;
    const undo = new Map<K, V | undefined>();
    for (const [key, value] of changes) {
      undo.set(key, entries.get(key));
      if (value === undefined) entries.delete(key);
      else entries.set(key, value);
    }
    const next = new VersionedMap(entries);
    this.#place = { kind: 'behind', undo, next };
    return next;
  }

  /** A copy of this view's entries; costs all of them. */
  toMap(): Map<K, V> {
    const undos: MapChanges<K, V>[] = [];
    let view: VersionedMap<K, V> = this;
    while (view.#place.kind === 'behind') {
      undos.push(view.#place.undo);
      view = view.#place.next;
    }
    const entries = new Map(view.#place.entries);
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
    return this.#place.kind === 'here'
      ? [...this.#place.entries.values()]
      : [...this.toMap().values()];
  }
}
