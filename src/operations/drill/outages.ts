/**
 * Outages of services that a drill cannot cut off from outside: ports that fail while a file says so.
 * The embedded source and lake, and servers behind TLS, are broken this way; for the rest there is a
 * proxy (tcp-proxy.ts).
 *
 * OU1 Of two commits that an outage catches, one has landed: the lost response is the hard case (P3).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Adapters } from '../../cli/context.ts';
import { PipelineError } from '../../errors.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import type { EventSource } from '../../storage/source/event-source.ts';

/** Names the folder in which a file `source` or `store` takes that service away. */
export const OUTAGES_VARIABLE = 'TIDEMARK_DRILL_OUTAGES';

/** The services that can be taken away. */
export type BreakableService = 'source' | 'store';

/** The same adapters, whose source and store are away while `folder` says so. */
export function withOutages(adapters: Adapters, folder: string): Adapters {
  const isAway = (service: BreakableService): boolean => existsSync(join(folder, service));
  return {
    ...adapters,
    openSource: async (config) =>
      breakableSource(await adapters.openSource(config), () => isAway('source')),
    openStore: async (config) =>
      breakableStore(await adapters.openStore(config), () => isAway('store')),
  };
}

function breakableSource(source: EventSource, isAway: () => boolean): EventSource {
  const reachable = (): void => {
    if (isAway()) throw away('TM_SOURCE_UNAVAILABLE', 'source');
  };
  return {
    description: source.description,
    describe: async () => {
      reachable();
      return source.describe();
    },
    offsets: async (partition) => {
      reachable();
      return source.offsets(partition);
    },
    openPartition: async (partition) => {
      reachable();
      const reader = await source.openPartition(partition);
      return {
        partition,
        fetch: async (request) => {
          reachable();
          return reader.fetch(request);
        },
        close: () => reader.close(),
      };
    },
    reportProgress: async (offsets) => {
      reachable();
      return source.reportProgress(offsets);
    },
    close: () => source.close(),
  };
}

function breakableStore(store: ObjectStore, isAway: () => boolean): ObjectStore {
  const reachable = (): void => {
    if (isAway()) throw away('TM_STORE_UNAVAILABLE', 'store');
  };
  let lands = false;
  return {
    description: store.description,
    get: async (key, options) => {
      reachable();
      return store.get(key, options);
    },
    head: async (key) => {
      reachable();
      return store.head(key);
    },
    put: async (key, body) => {
      reachable();
      return store.put(key, body);
    },
    createIfAbsent: async (key, body) => {
      if (!isAway()) return store.createIfAbsent(key, body);
      // OU1
      lands = !lands;
      if (lands) await store.createIfAbsent(key, body);
      return 'unknown';
    },
    list: async function* (prefix, options) {
      reachable();
      yield* store.list(prefix, options);
    },
    delete: async (key) => {
      reachable();
      return store.delete(key);
    },
    localPath: (key) => store.localPath(key),
    close: () => store.close(),
  };
}

function away(code: 'TM_SOURCE_UNAVAILABLE' | 'TM_STORE_UNAVAILABLE', what: string): PipelineError {
  return new PipelineError('unavailable', code, `a drill has taken the ${what} away`);
}
