/** Tests that the state machines of a cluster and its endpoints take the steps of their drawings alone. */
import t from 'tap';
import { checkArrows } from '../../test/support/arrows.ts';
import { POOL_ARROWS } from './connection/pool-state.ts';
import { LOOKUP_ARROWS } from './discovery/dns.ts';
import { WATCH_ARROWS } from './discovery/kubernetes.ts';
import { SIGN_ARROWS } from './health/silence-watch.ts';
import { HEALTH_ARROWS } from './health/threshold.ts';
import { ENDPOINT_ARROWS } from './outlier/watched-endpoint.ts';

t.test('the connections to an endpoint take the steps of their drawing, and no others', async (t) => {
  checkArrows(
    t,
    POOL_ARROWS,
    `idle → connecting, ready, backingOff, closed
     connecting → ready, backingOff, closed
     ready → idle, connecting, backingOff, closed
     backingOff → ready, idle, closed
     closed`,
  );
});

t.test('an endpoint is ejected, returns on probation, and recovers or is ejected again', async (t) => {
  checkArrows(
    t,
    ENDPOINT_ARROWS,
    `in_service → ejected
     ejected → probation
     probation → in_service, ejected`,
  );
});

t.test('the health of an endpoint takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    HEALTH_ARROWS,
    `unknown → healthy, unhealthy
     healthy → unhealthy
     unhealthy → healthy`,
  );
});

t.test('a request for a sign of life takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    SIGN_ARROWS,
    `asked → absent, ended
     absent → ended
     ended`,
  );
});

t.test('discovery by DNS takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    LOOKUP_ARROWS,
    `new → looking up, stopped
     looking up → waiting, stopped
     waiting → looking up, stopped
     stopped`,
  );
});

t.test('discovery by Kubernetes takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    WATCH_ARROWS,
    `new → listing, stopped
     listing → watching, backing off, stopped
     watching → backing off, stopped
     backing off → listing, watching, stopped
     stopped`,
  );
});
