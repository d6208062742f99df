/** What a node committed since it started; for progress lines and metrics. */

export class NodeCounts {
  bronzeRows = 0;
  bronzeCommits = 0;
  silverRows = 0;
  silverCommits = 0;
  duplicates = 0;
  conflicts = 0;
  deadLetters = 0;
  late = 0;

  /** By name, as members announce them. */
  toRecord(): Readonly<Record<string, number>> {
    return Object.fromEntries(Object.entries(this) as [string, number][]);
  }

  addBronze(rows: number): void {
    this.bronzeRows += rows;
    this.bronzeCommits += 1;
  }

  /** @param counts of one silver span, as its commit's lineage has them */
  addSilver(counts: Readonly<Record<string, number>>): void {
    this.silverCommits += 1;
    this.silverRows += counts['silverRows'] ?? 0;
    this.duplicates += counts['duplicates'] ?? 0;
    this.conflicts += counts['conflicts'] ?? 0;
    this.deadLetters += counts['deadLetters'] ?? 0;
    this.late += counts['late'] ?? 0;
  }

  /** Adds what another node counted. */
  add(other: NodeCounts): void {
    this.bronzeRows += other.bronzeRows;
    this.bronzeCommits += other.bronzeCommits;
    this.silverRows += other.silverRows;
    this.silverCommits += other.silverCommits;
    this.duplicates += other.duplicates;
    this.conflicts += other.conflicts;
    this.deadLetters += other.deadLetters;
    this.late += other.late;
  }

  static sum(all: Iterable<NodeCounts>): NodeCounts {
    const total = new NodeCounts();
    for (const counts of all) total.add(counts);
    return total;
  }

  /** Counts as `toRecord` gave them; what is missing or no number counts as 0. */
  static of(record: Readonly<Record<string, number>>): NodeCounts {
    const counts = new NodeCounts();
    for (const name of Object.keys(counts) as CountName[]) counts[name] = Number(record[name]) || 0;
    return counts;
  }
}

type CountName = Exclude<keyof NodeCounts, 'toRecord' | 'addBronze' | 'addSilver' | 'add'>;
