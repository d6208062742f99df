/** Runs the object store contract on the adapters that need no server. */
import { systemAmbient } from '../../src/ambient.ts';
import { MemoryObjectStore } from '../../src/storage/object-store/memory-object-store.ts';
import { objectStoreContract } from './object-store.contract.ts';

objectStoreContract('memory', async () => {
  const store = new MemoryObjectStore({ clock: systemAmbient.clock });
  return { open: async () => store };
});
