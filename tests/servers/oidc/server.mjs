// An authorization server that shares no line with ours: oidc-provider, with its own login and consent pages.
// Orders (JSON, a line) come by stdin; it says "ready URL" and ends with its stdin.
// Under /testing/ it tells what its token endpoint was asked for, and has an API that a token for it opens.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// The modules are installed outside the repository.
const entry = join(process.argv[2], "oidc-provider", "lib", "index.js");
const { Provider } = await import(pathToFileURL(entry));

const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const orders = JSON.parse((await input.next()).value);

const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

let stats = {};
const reset = () => {
  stats = { granted: {}, refused: {}, refresh_tokens: {}, revocations: 0 };
};
reset();

const api = {
  scope: "read write",
  accessTokenFormat: "opaque",
  accessTokenTTL: orders.lifetime,
};

const provider = new Provider(issuer, {
  clients: orders.clients,
  scopes: ["openid", "offline_access", "profile"],
  claims: { openid: ["sub"], profile: ["preferred_username"] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: `${id} of the tests` }),
  }),
  cookies: { keys: ["of the tests"] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: orders.lifetime,
    ClientCredentials: orders.lifetime,
    DeviceCode: 600,
    Grant: 3600,
    IdToken: 600,
    Interaction: 600,
    RefreshToken: 3600,
    Session: 3600,
  },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: () => api,
    },
  },
});

function count(ctx, error) {
  const params = ctx.oidc?.params ?? {};
  const counts = error ? stats.refused : stats.granted;
  const name = error ? error.error : params.grant_type;
  counts[name] = (counts[name] ?? 0) + 1;
  if (params.refresh_token) {
    const hash = createHash("sha256").update(params.refresh_token).digest("hex");
    stats.refresh_tokens[hash] = (stats.refresh_tokens[hash] ?? 0) + 1;
  }
}
provider.on("grant.success", (ctx) => count(ctx));
provider.on("grant.error", count);
provider.on("grant.revoked", () => (stats.revocations += 1));

async function opened(request) {
  const bearer = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const token =
    (await provider.AccessToken.find(bearer)) ?? (await provider.ClientCredentials.find(bearer));
  return token && { audience: token.aud ?? null, scope: token.scope ?? null, client: token.clientId };
}

async function testing(request, response) {
  const answer = (status, body) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
  if (request.url === "/testing/stats") return answer(200, stats);
  if (request.url === "/testing/reset") return answer(200, reset() ?? {});
  const found = await opened(request);
  return found ? answer(200, found) : answer(401, {});
}

const pages = provider.callback();
server.on("request", (request, response) =>
  request.url.startsWith("/testing/") ? testing(request, response) : pages(request, response),
);
console.log(`ready ${issuer}`);
await input.next();
process.exit(0);
