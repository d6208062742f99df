/** Loaded before everything else (`--import`): breaks the code as TIDEMARK_BREAKAGE says. */
import { registerHooks } from 'node:module';
import { BREAKAGE_VARIABLE, BREAKAGES, breakSource } from './breakages.ts';

const chosen = BREAKAGES.find(({ name }) => name === process.env[BREAKAGE_VARIABLE]);

if (chosen) {
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context);
      if (!url.endsWith(`/${chosen.file}`)) return loaded;
      const source = Buffer.from(loaded.source as Uint8Array).toString();
      return { ...loaded, source: breakSource(chosen, source) };
    },
  });
}
