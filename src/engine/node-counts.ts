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
}
