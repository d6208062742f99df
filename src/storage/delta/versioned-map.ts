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

/** Either the entries (newest view) or the way to them (V2). */
type Place<K, V> =
  | { readonly kind: 'here'; readonly entries: Map<K, V> }
  | { readonly kind: 'behind'; readonly undo: MapChanges<K, V>; readonly next: Anchor<K, V> };

/** What successive views hang on to: its place changes once, when a successor takes the entries. */
interface Anchor<K, V> {
  place: Place<K, V>;
}

/** One view (V1). A value may not be undefined. */
export class VersionedMap<K, V> {
  readonly size: number;
  readonly #anchor: Anchor<K, V>;

  private constructor(entries: Map<K, V>) {
    this.size = entries.size;
    this.#anchor = { place: { kind: 'here', entries } };
  }

  /** Takes ownership of `entries`; the caller must not touch them again. */
  static owning<K, V>(entries: Map<K, V>): VersionedMap<K, V> {
    return new VersionedMap(entries);
  }

  get(key: K): V | undefined {
    let { place } = this.#anchor;
    for (; place.kind === 'behind'; place = place.next.place) {
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
    const { place } = this.#anchor;
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
    let { place } = this.#anchor;
    for (; place.kind === 'behind'; place = place.next.place) undos.push(place.undo);
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
    const { place } = this.#anchor;
    return [...(place.kind === 'here' ? place.entries : this.toMap()).values()];
  }
}
