/**
 * An S3 server that accepts `If-None-Match` and ignores it, as several do: what a start-up probe is for.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';

export class CarelessS3 {
  /** Objects by `/bucket/key`. */
  readonly objects = new Map<string, Buffer>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#answer(request, response);
    });
  }

  /** Listens on loopback until the test ends. */
  static async start(t: TestContext): Promise<CarelessS3> {
    const s3 = new CarelessS3();
    await new Promise<void>((listening) => s3.#server.listen(0, '127.0.0.1', listening));
    t.after(() => {
      s3.#server.closeAllConnections();
      s3.#server.close();
    });
    return s3;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { pathname, searchParams } = new URL(request.url!, this.endpoint);
    const end = (status: number, body: string | Buffer = ''): void => {
      response.writeHead(status, { etag: '"0"' }).end(body);
    };
    switch (request.method) {
      case 'PUT':
        this.objects.set(pathname, Buffer.concat(chunks));
        return end(200);
      case 'DELETE':
        this.objects.delete(pathname);
        return end(204);
      default: {
        if (searchParams.has('list-type')) {
          return end(200, this.#listing(pathname, searchParams.get('prefix') ?? ''));
        }
        const body = this.objects.get(pathname);
        return body === undefined ? end(404) : end(200, body);
      }
    }
  }

  #listing(bucketPath: string, prefix: string): string {
    const start = `${bucketPath.replace(/\/$/, '')}/`;
    const contents = [...this.objects]
      .filter(([path]) => path.startsWith(start + prefix))
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(
        ([path, body]) =>
          `<Contents><Key>${path.slice(start.length)}</Key><Size>${body.length}</Size>` +
          '<LastModified>2026-11-22T00:00:00.000Z</LastModified><ETag>0</ETag></Contents>',
      );
    return `<ListBucketResult><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`;
  }
}
