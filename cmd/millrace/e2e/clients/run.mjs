// Reads through a gateway with the three common clients until standard input ends, and prints one JSON object:
// for each client the count of reads, the errors, and the numbers of the heads that its subscription told.
//
//   node run.mjs http://127.0.0.1:8000 ws://127.0.0.1:8000
import { ethers } from 'ethers';
import { createPublicClient, http, webSocket } from 'viem';
import { Web3 } from 'web3';

const [httpURL, wsURL] = process.argv.slice(2);
const account = '0x0000000000000000000000000000000000000001';
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

let going = true;
process.stdin.on('end', () => { going = false; });
process.stdin.on('error', () => { going = false; });
process.stdin.resume();

// reader counts what a client does.
class Reader {
  constructor(name) {
    this.name = name;
    this.reads = 0;
    this.filters = 0; // that were made; one more whenever its node was gone
    this.errors = [];
    this.heads = [];
  }

  async read(what, f) {
    try {
      await f();
      this.reads++;
    } catch (e) {
      this.errors.push(`${what}: ${e?.shortMessage ?? e?.message ?? e}`.slice(0, 300));
    }
  }

  // follow asks a filter for changes; when its node is gone (-32001) it makes another one, as a client has to.
  async follow(make, changes) {
    try {
      if (this.filter === undefined) {
        this.filter = await make();
        this.filters++;
      }
      await changes(this.filter);
      this.reads++;
    } catch (e) {
      const text = JSON.stringify([e?.message, e?.code, e?.cause?.code, e?.error?.code, e?.info, e?.details]);
      this.filter = undefined;
      if (!text.includes('-32001') && !text.includes('filter id not found')) {
        this.errors.push(`filter: ${text}`.slice(0, 300));
      }
    }
  }

  report() {
    return { reads: this.reads, filters: this.filters, errors: this.errors, heads: this.heads };
  }
}

async function withEthers(r) {
  const net = ethers.Network.from(Number(await fetchChainID()));
  const provider = new ethers.JsonRpcProvider(httpURL, net, { staticNetwork: net, batchMaxCount: 20, cacheTimeout: -1 });
  const ws = new ethers.WebSocketProvider(wsURL, net, { staticNetwork: net });
  await ws.on('block', () => {}); // the library's own way, beside the raw one
  const raw = new ethers.WebSocketProvider(wsURL, net, { staticNetwork: net });
  const id = await raw.send('eth_subscribe', ['newHeads']);
  raw.websocket.addEventListener('message', (m) => {
    const note = JSON.parse(m.data);
    if (note?.params?.subscription === id) r.heads.push(Number(note.params.result.number));
  });
  while (going) {
    await r.read('batch', () => Promise.all([
      provider.getBlockNumber(), provider.getBalance(account), provider.send('eth_chainId', []), provider.getBlock('latest'),
      provider.getTransactionCount(account), provider.call({ to: account, data: '0x' }),
    ]));
    await r.follow(() => provider.send('eth_newBlockFilter', []), (f) => provider.send('eth_getFilterChanges', [f]));
    await pause(20);
  }
  provider.destroy();
  await ws.destroy();
  await raw.destroy();
}

async function withViem(r) {
  const client = createPublicClient({ transport: http(httpURL, { retryCount: 0, batch: { batchSize: 20 } }) });
  const ws = createPublicClient({ transport: webSocket(wsURL, { retryCount: 0, reconnect: false }) });
  const heads = await ws.transport.subscribe({
    params: ['newHeads'],
    onData: (d) => r.heads.push(Number(d.result.number)),
    onError: (e) => r.errors.push(`subscription: ${e.message}`),
  });
  while (going) {
    await r.read('batch', () => Promise.all([
      client.getBlockNumber({ cacheTime: 0 }), client.getBalance({ address: account }), client.getChainId(),
      client.getBlock({ blockTag: 'finalized' }).catch(() => client.getBlock()), client.getLogs({}), client.getGasPrice(),
    ]));
    await r.read('websocket', () => ws.getBlock());
    await r.follow(() => client.createBlockFilter(), (filter) => client.getFilterChanges({ filter }));
    await pause(20);
  }
  await heads.unsubscribe();
  (await ws.transport.getRpcClient()).close();
}

async function withWeb3(r) {
  const web3 = new Web3(httpURL);
  const ws = new Web3(new Web3.providers.WebsocketProvider(wsURL, {}, { autoReconnect: false }));
  const heads = await ws.eth.subscribe('newBlockHeaders');
  heads.on('data', (b) => r.heads.push(Number(b.number)));
  heads.on('error', (e) => r.errors.push(`subscription: ${e.message}`));
  while (going) {
    await r.read('block', () => web3.eth.getBlock('latest'));
    await r.read('batch', async () => {
      const batch = new web3.BatchRequest();
      const all = [['eth_blockNumber', []], ['eth_getBalance', [account, 'latest']], ['eth_getCode', [account, 'latest']]].map(
        ([method, params], i) => batch.add({ jsonrpc: '2.0', id: i + 1, method, params }));
      await batch.execute();
      await Promise.all(all);
    });
    await r.read('websocket', () => ws.eth.getBlockNumber());
    await r.follow(
      () => web3.requestManager.send({ method: 'eth_newBlockFilter', params: [] }),
      (f) => web3.requestManager.send({ method: 'eth_getFilterChanges', params: [f] }));
    await pause(20);
  }
  await heads.unsubscribe();
  ws.provider.disconnect();
}

async function fetchChainID() {
  const answer = await fetch(httpURL, {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] }),
  });
  return (await answer.json()).result;
}

const readers = { ethers: withEthers, viem: withViem, web3: withWeb3 };
const report = {};
await Promise.all(Object.entries(readers).map(async ([name, run]) => {
  const r = new Reader(name);
  report[name] = r;
  try {
    await run(r);
  } catch (e) {
    r.errors.push(`ended: ${e?.stack ?? e}`.slice(0, 600));
  }
}));
console.log(JSON.stringify(Object.fromEntries(Object.entries(report).map(([n, r]) => [n, r.report()]))));
process.exit(0);
