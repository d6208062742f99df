/** Decodes the file it is given, encodes the rows again and sends them back. */
import { parentPort, workerData } from 'node:worker_threads';
import type { StructType } from '../../../src/pipeline/types.ts';
import { createParquetCodec } from '../../../src/storage/parquet/parquet-wasm-codec.ts';

const { file, schema } = workerData as { readonly file: Uint8Array; readonly schema: StructType };
const codec = createParquetCodec();
parentPort?.postMessage([codec.encode(codec.decode(file, schema), { compression: 'zstd' })]);
