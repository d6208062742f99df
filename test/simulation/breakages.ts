/**
 * Deliberate breakages of production code, each of which some seed must catch: the proof that the
 * simulation finds bugs. They are replacements of text, made while the module is loaded.
 */

/** One way to break the code. */
export interface Breakage {
  readonly name: string;
  /** Below the root of the repository. */
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
}

/** By what they break. */
export const BREAKAGES: readonly Breakage[] = [
  {
    name: 'skip the txn check',
    file: 'src/storage/delta/conflict.ts',
    find: 'if (actual !== expected) return',
    replace: 'if (actual === -1n) return',
  },
  {
    name: 'check the txn before the first race only',
    file: 'src/storage/delta/delta-table.ts',
    find: 'const refusal = refusalOf(request, base, snapshot);',
    replace: 'const refusal = race > 1 ? undefined : refusalOf(request, base, snapshot);',
  },
  {
    name: 'replace instead of create (rename instead of link)',
    file: 'src/storage/delta/committer.ts',
    find: 'const outcome = await store.createIfAbsent(key, body);',
    replace: "const outcome = await store.put(key, body).then((): string => 'created');",
  },
  {
    name: 'take an unknown outcome for a commit',
    file: 'src/storage/delta/committer.ts',
    find: "if (outcome === 'unknown') inDoubt = true;",
    replace: "if (outcome === 'unknown') return { kind: 'ours', alreadyOurs: false, inDoubt };",
  },
  {
    name: 'delete files after an unknown outcome',
    file: 'src/storage/delta/committer.ts',
    find: "if (outcome === 'unknown') inDoubt = true;",
    replace:
      "inDoubt ||= outcome === 'unknown'; if (outcome === 'unknown') for (const add of entry.adds) await store.delete(`${root}/${add.path}`);",
  },
  {
    name: "take another writer's commit for ours",
    file: 'src/storage/delta/committer.ts',
    find: 'if (found.commitInfo?.txnId !== txnId) return',
    replace: 'if (found.commitInfo === undefined) return',
  },
  {
    name: 'date commits by the clock alone',
    file: 'src/storage/delta/commit-plan.ts',
    find: 'Math.max(Math.trunc(attempt.nowMs), snapshot.timestampMs)',
    replace: 'Math.trunc(attempt.nowMs)',
  },
  {
    name: 'leave txns out of checkpoints',
    file: 'src/storage/delta/checkpoint.ts',
    find: 'txns: snapshot.txns(),',
    replace: 'txns: snapshot.txns().slice(1),',
  },
  {
    name: 'believe a listing to be complete',
    file: 'src/storage/delta/log-reader.ts',
    find: 'if (!(await this.readEntry(0))) return undefined;',
    replace: 'return undefined;',
  },
  {
    name: 'fetch without asking for memory',
    file: 'src/actors/partition-worker/actor.ts',
    find: 'await deps.budget.acquire(FETCH_BYTES, signal)',
    replace: 'await deps.budget.acquire(0, signal)',
  },
  {
    name: 'trust Redis for the next offset',
    file: 'src/actors/partition-worker/actor.ts',
    find: 'const next = expected ?? earliest;',
    replace:
      "const hinted = (await deps.state.getHash(`partition:${partition}`))['nextOffset'];" +
      ' const next = hinted === undefined ? (expected ?? earliest) : BigInt(hinted);',
  },
  {
    name: 'acknowledge before the commit',
    file: 'src/actors/bronze-writer/actor.ts',
    find: 'const outcome = await table.commit({',
    replace:
      'for (const { partition, next } of batch.progress) await deps.state.setHash(`partition:${partition}`, ' +
      '{ nextOffset: String(next) }).catch(() => {}); const outcome = await table.commit({',
  },
  {
    name: 'commit bronze whatever its progress',
    file: 'src/actors/bronze-writer/actor.ts',
    find: `        appId: appIdOf(partition),
        expected,`,
    replace: "        appId: appIdOf(partition), expected: 'any' as const,",
  },
  {
    name: 'fetch one offset too far',
    file: 'src/actors/partition-worker/behavior.ts',
    find: 'next = { ...next, fetched: message.chunk.next };',
    replace: 'next = { ...next, fetched: message.chunk.next + 1n };',
  },
  {
    name: 'drop the last gap',
    file: 'src/pipeline/bronze.ts',
    find: 'const list = gaps.map(',
    replace: 'const list = gaps.slice(0, -1).map(',
  },
  {
    name: 'keep aborted records',
    file: 'src/storage/source/record-batch.ts',
    find: 'if (transactional && this.#aborted.has(header.producerId))',
    replace: 'if (transactional && header.producerId === -7n)',
  },
  {
    name: 'forget that a transaction ended',
    file: 'src/storage/source/record-batch.ts',
    find: 'if (isAbortMarker(header, bytes)) this.#aborted.delete(header.producerId);',
    replace: '',
  },
  {
    name: 'jump over offsets that are gone',
    file: 'src/actors/partition-worker/actor.ts',
    find: 'const next = expected ?? earliest;',
    replace: 'const next = expected === undefined || expected < earliest ? earliest : expected;',
  },
  {
    name: 'read the topic that took the place of the old one',
    file: 'src/actors/partition-worker/actor.ts',
    find: 'if (id.startsWith(prefix) && !id.startsWith(`${prefix}${topic.topicId}:`)) {',
    replace: 'if (id === prefix) {',
  },
  {
    name: 'do not watch the bronze thread',
    file: 'src/actors/bronze-writer/actor.ts',
    find: "effects: [{ kind: 'watch-thread' }]",
    replace: 'effects: []',
  },
  {
    name: 'begin silver without its dedup index',
    file: 'src/actors/silver-writer/actor.ts',
    find: 'await archive.load(own);',
    replace: '',
  },
  {
    name: 'derive dead letters again after a crash between two commits',
    file: 'src/actors/silver-writer/actor.ts',
    find: 'const call = { inputs, deadCovered, buckets: owned, earlierEvent: earlier };',
    replace: 'const call = { inputs, deadCovered: 0, buckets: owned, earlierEvent: earlier };',
  },
  {
    name: 'commit silver whatever its progress',
    file: 'src/storage/delta/conflict.ts',
    find: "if (expected === 'any') continue;",
    replace:
      "if (expected === 'any' || appId.includes(':silver:') || appId.includes(':ledger:')) continue;",
  },
  {
    name: 'leave a bronze version out',
    file: 'src/actors/silver-writer/actor.ts',
    find: 'for (const commit of commits) {',
    replace: 'for (const commit of commits.length > 2 ? commits.slice(1) : commits) {',
  },
  {
    name: 'take a conflict for a duplicate',
    file: 'src/pipeline/silver/deriver.ts',
    find: 'if (verdict === ID_CONFLICT) {',
    replace: 'if (verdict === 99) {',
  },
  {
    name: 'forget the ids that were moved to disk',
    file: 'src/pipeline/silver/dedup-layers.ts',
    find: 'if (candidates.length > 0) await this.#settle(',
    replace: 'if (candidates.length < 0) await this.#settle(',
  },
  {
    name: 'let events of the future move the watermark',
    file: 'src/pipeline/silver/deriver.ts',
    find: 'if (this.#future[slot] === 0) {',
    replace: 'if (this.#future[slot]! >= 0) {',
  },
  {
    name: 'lower the watermark',
    file: 'src/pipeline/silver/derivation.ts',
    find: 'else if (isAfter(low, high, watermark.low, watermark.high)) {',
    replace: 'else {',
  },
  {
    name: 'be late a moment later',
    file: 'src/pipeline/silver/deriver.ts',
    find: 'delay >= lateMicros',
    replace: 'delay > lateMicros',
  },
  {
    name: 'count a span twice in the ledger',
    file: 'src/actors/silver-writer/actor.ts',
    find: 'const next = (before ?? 0n) + BigInt(derived.counts[counter] ?? 0);',
    replace: 'const next = (before ?? 0n) + BigInt(derived.counts[counter] ?? 0) * 2n;',
  },
  {
    name: "keep a slot's old file",
    file: 'src/actors/gold-writer/actor.ts',
    find: 'const removes = slots.flatMap(({ slot }) => [...index.filesOf(slot)]);',
    replace: 'const removes = slots.flatMap(({ slot }) => [...index.filesOf(slot)].slice(1));',
  },
  {
    name: 'load a slot as of a version too early',
    file: 'src/actors/gold-writer/actor.ts',
    find: 'Math.max(silverVersion, coveredBy.get(aggregate)!),',
    replace: 'Math.max(0, Math.max(silverVersion, coveredBy.get(aggregate)!) - 1),',
  },
  {
    name: 'wait for jobs alone',
    file: 'src/engine/node.ts',
    find: 'const ticker = this.#every(LOOK_MS, wake);',
    replace: 'const ticker = this.#every(LOOK_MS * 1e6, wake);',
  },
  {
    name: 'keep the lease of a unit that was moved',
    file: 'src/supervisor/node-agent.ts',
    find: 'new Set([...node.units, ...this.#leases.keys()])',
    replace: 'node.units',
  },
  {
    name: 'never try a fenced unit again',
    file: 'src/supervisor/node-agent.ts',
    find: "if (kind === 'fenced' || kind === 'internal') {",
    replace: "if (kind === 'internal') {",
  },
  {
    name: 'compact as if the rows were new',
    file: 'src/operations/housekeeping/optimize.ts',
    find: 'dataChange: false,',
    replace: 'dataChange: true,',
  },
  {
    name: 'keep the coverage of one compacted file only',
    file: 'src/operations/housekeeping/optimize.ts',
    find: 'tags: mergedTags(taken),',
    replace: 'tags: taken[0]!.tags ?? {},',
  },
  {
    name: 'compact files that others replaced meanwhile',
    file: 'src/storage/delta/conflict.ts',
    find: 'if (!snapshot.file(path)) return conflict',
    replace: 'if (snapshot.version < 0) return conflict',
  },
  {
    name: 'give up when a service is away',
    file: 'src/actors/runtime/supervision.ts',
    find: "if (kind === 'fenced' ||",
    replace: "if (kind === 'unavailable' || kind === 'fenced' ||",
  },
  {
    name: 'keep the memory that a fetch did not use',
    file: 'src/actors/byte-budget.ts',
    find: 'this.#granted += actual - held;',
    replace: '',
  },
];

/** Environment variable that names the breakage of a process. */
export const BREAKAGE_VARIABLE = 'TIDEMARK_BREAKAGE';

/**
 * The broken text of a file.
 * @throws Error when the place to break is not there, or is there twice
 */
export function breakSource({ name, file, find, replace }: Breakage, source: string): string {
  const parts = source.split(find);
  if (parts.length !== 2) {
    throw new Error(`breakage "${name}": its place is ${parts.length - 1} times in ${file}`);
  }
  return parts.join(replace);
}
