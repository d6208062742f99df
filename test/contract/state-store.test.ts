/** Runs the state store contract on every adapter. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { openEmbeddedStateStore } from '../../src/storage/state/embedded-state-store.ts';
import { MemoryStateStore } from '../../src/storage/state/memory-state-store.ts';
import { RedisStateStore } from '../../src/storage/state/redis-state-store.ts';
import { sharedRedis, uniqueName } from '../support/servers.ts';
import { stateStoreContract } from './state-store.contract.ts';

stateStoreContract('memory', async () => new MemoryStateStore({ clock: systemAmbient.clock }));

stateStoreContract('embedded', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-state-'));
  const store = await openEmbeddedStateStore({
    path: folder,
    ambient: systemAmbient,
    logger: silentLogger,
  });
  // The store writes until it is closed.
  t.after(() => store.close().then(() => rm(folder, { recursive: true })));
  return store;
});

stateStoreContract(
  'Redis',
  async () =>
    new RedisStateStore({
      url: await sharedRedis(),
      prefix: uniqueName('state'),
      clock: systemAmbient.clock,
      logger: silentLogger,
    }),
);
