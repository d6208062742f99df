/** Runs the object store contract on the adapters that need no server. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { openFsObjectStore } from '../../src/storage/object-store/fs-object-store.ts';
import { MemoryObjectStore } from '../../src/storage/object-store/memory-object-store.ts';
import { objectStoreContract } from './object-store.contract.ts';

objectStoreContract('memory', async () => {
  const store = new MemoryObjectStore({ clock: systemAmbient.clock });
  return { open: async () => store };
});

objectStoreContract('file system', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark store ü%23#-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'lake', 'root');
  return { open: () => openFsObjectStore({ path, ambient: systemAmbient, logger: silentLogger }) };
});
