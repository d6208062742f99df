/**
 * A process to be killed or raced by fs-object-store.test.ts. Arguments: `put ROOT` writes 16 MiB
 * objects of one repeated byte until killed; `race ROOT KEYS` creates that
 * many keys for each round number it is sent, and answers with those that it won.
 */
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { openFsObjectStore } from '../../../src/storage/object-store/fs-object-store.ts';

const [mode, path = '', keys = '0'] = process.argv.slice(2);
const store = await openFsObjectStore({ path, ambient: systemAmbient, logger: silentLogger });

if (mode === 'put') {
  for (let i = 0; ; i++) {
    const body = new Uint8Array(16 << 20).fill(i + 1);
    await store.put(`put/${i}`, body);
    await store.put('put/replaced', body);
    await store.createIfAbsent(`create/${i}`, body);
  }
} else {
  process.on('message', (round: number) => {
    const attempts = Array.from({ length: Number(keys) }, async (_, i) => {
      const key = `race/${round}/${i}`;
      const outcome = await store.createIfAbsent(key, Buffer.from(`${process.pid}`));
      return outcome === 'created' ? [key] : [];
    });
    void Promise.all(attempts).then((wins) => process.send!(wins.flat()));
  });
  process.send!('ready');
}
