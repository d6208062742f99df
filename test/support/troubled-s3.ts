/**
 * A proxy in front of the S3 server that gives it bad days: refusals, slowness, lost responses. The
 * server behind stays correct. Signatures stay valid, since the Host header is passed on.
 */
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { sharedS3 } from './servers.ts';

/** What happens to requests. */
export interface Trouble {
  /** Share of requests answered with 503 SlowDown, 0 to 1. */
  readonly refused?: number;
  /** Every request is held up that long before it is passed on. */
  readonly delayMs?: number;
  /** Share of writes that take effect, but whose response is lost. */
  readonly lost?: number;
}

const SLOW_DOWN =
  '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>';

export class TroubledS3 {
  /** Changed at will; nothing goes wrong to begin with. */
  trouble: Trouble = {};
  /** Requests that trouble met, by what it did. */
  readonly counts = { refused: 0, lost: 0 };
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on loopback until the test ends. */
  static async start(t: TestContext): Promise<TroubledS3> {
    const target = new URL((await sharedS3()).endpoint);
    const server = createServer();
    const s3 = new TroubledS3(server);
    server.on('request', (request, response) => {
      const { refused = 0, delayMs = 0, lost = 0 } = s3.trouble;
      if (Math.random() < refused) {
        s3.counts.refused += 1;
        request.resume();
        request.on('end', () => {
          response.writeHead(503, { 'content-type': 'application/xml' }).end(SLOW_DOWN);
        });
        return;
      }
      const isLost = request.method === 'PUT' && Math.random() < lost;
      setTimeout(() => {
        const { hostname, port } = target;
        const { method, url, headers } = request;
        const passed = httpRequest({ hostname, port, method, path: url, headers }, (answer) => {
          if (isLost) {
            s3.counts.lost += 1;
            answer.resume();
            request.socket.destroy();
            return;
          }
          response.writeHead(answer.statusCode!, answer.headers);
          answer.pipe(response);
        });
        passed.on('error', () => request.socket.destroy());
        request.pipe(passed);
      }, delayMs);
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    return s3;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }
}
