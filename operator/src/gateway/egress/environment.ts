// What processes of a sandbox find of the way out. Programs go by either spelling.
import { gatewayPort } from '@atoll/protocol/sidecar'

const proxy = `http://127.0.0.1:${gatewayPort}`
/** What a sandbox serves to itself does not leave it. */
const direct = 'localhost,127.0.0.1,::1,.localhost'

/** Set whatever the policy is: who is denied reads why, and does not look for a name in vain. */
export const proxyVariables: Readonly<Record<string, string>> = {
  HTTP_PROXY: proxy,
  HTTPS_PROXY: proxy,
  http_proxy: proxy,
  https_proxy: proxy,
  NO_PROXY: direct,
  no_proxy: direct,
  NODE_USE_ENV_PROXY: '1',
}
