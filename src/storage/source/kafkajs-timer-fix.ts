/**
 * Repairs a fault of kafkajs 2.2.4, its last release: after each answer it re-arms the check of its
 * waiting requests, with nothing waiting by a negative delay, which is a timer every millisecond for the
 * life of a connection (and a TimeoutNegativeWarning). Imported for its effect, once per process.
 */
import RequestQueue from 'kafkajs/src/network/requestQueue/index.js';

const schedule = RequestQueue.prototype.scheduleCheckPendingRequests;

RequestQueue.prototype.scheduleCheckPendingRequests = function scheduleWhenWaiting() {
  if (this.pending.length > 0) schedule.call(this);
};
