// `npm run simulator`: starts the simulator and prints everything needed to use it.
//   PORT (4500; a busy one means the next free), HOST (127.0.0.1), AUTO_APPROVE=1, ROTATION=1,
//   CALLBACKS (comma-separated; replaces the seeded apps' list)

import { PASSWORD, startSimulator } from './index.ts'

const { env } = process
const wanted = Number(env.PORT ?? 4500)
if (!Number.isInteger(wanted) || wanted < 0 || wanted > 65_535) {
  process.stderr.write('PORT must be a number from 0 to 65535\n')
  process.exit(1)
}

const simulator = await startSimulator({
  port: wanted,
  morePorts: wanted === 0 ? 0 : Math.min(50, 65_535 - wanted),
  host: env.HOST ?? '127.0.0.1',
  autoApprove: env.AUTO_APPROVE === '1',
  rotation: env.ROTATION === '1',
  ...(env.CALLBACKS ? { callbacks: env.CALLBACKS.split(',').map(c => c.trim()) } : {}),
})

const hosts = ['acme--uat', 'acme', 'test', 'login']
const describeOrg = (org: string) => {
  const app = simulator.app(org)
  const users = simulator.control.state().users.filter(user => user.org === org)
  return `
  ${org === 'acme' ? 'Production' : 'Sandbox'} ${org}
    client id      ${app.clientId}
    client secret  ${app.clientSecret}
    callback       ${app.callbacks.join(', ')}
    scopes         ${app.scopes.join(' ')}; PKCE required; rotation ${app.rotation ? 'on' : 'off'}
    users          ${users.map(user => user.username).join(', ')}   password ${PASSWORD}`
}

process.stdout.write(`
Salesforce simulator: nothing here reaches Salesforce

  ${simulator.url}/    everything below as a page

  In a browser                                                In any program
${hosts.map(h => `  ${simulator.base(h, 'name').padEnd(60)}${simulator.base(h)}`).join('\n')}
${describeOrg('acme--uat')}
${describeOrg('acme')}

  The callback must match one on the app exactly: CALLBACKS=https://my.app/callback npm run simulator

  Break things (all commands in simulator/README.md)
    curl -X POST ${simulator.url}/__admin/expireAccessTokens
    curl -X POST ${simulator.url}/__admin/drop -d '{"endpoint":"token","grantType":"refresh_token"}'
    curl -X POST ${simulator.url}/__admin/fail -d '{"endpoint":"rest","status":503,"times":3}'
    curl ${simulator.url}/__admin/requests

  Ctrl-C stops it; its memory goes with it.
`)

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    simulator.close().then(() => process.exit(0))
  })
}
