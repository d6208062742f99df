/**
 * The files of the web page, read once. They hold no data of the pipeline.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A file ready to be sent. */
export interface PageAsset {
  readonly name: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
  /** Changes with the bytes. */
  readonly etag: string;
}

const MEDIA_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Reads every file of the page; the folder is part of the program. */
export async function readPageAssets(): Promise<ReadonlyMap<string, PageAsset>> {
  const folder = fileURLToPath(new URL('../web/', import.meta.url));
  const names = (await readdir(folder)).filter((name) => extname(name) in MEDIA_TYPES);
  const assets = await Promise.all(
    names.map(async (name): Promise<PageAsset> => {
      const bytes = await readFile(join(folder, name));
      const hash = createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
      return { name, mediaType: MEDIA_TYPES[extname(name)]!, bytes, etag: `"${hash}"` };
    }),
  );
  return new Map(assets.map((asset) => [asset.name, asset]));
}
