/** A Salesforce org, reached with an administrator's access token for as long as one command runs: deploying an app, and reading its key. */
import { setTimeout as sleep } from 'node:timers/promises'
import { apiVersion } from '../../salesforce/app-project.ts'
import { readHost } from '../../salesforce/hosts.ts'
import { Refused, Unreachable, UsageFault } from './faults.ts'

export interface Org {
  url: string
  sandbox: boolean
  /** Resolves when it is deployed; throws Refused with every component's problem. */
  deploy(archive: Buffer): Promise<void>
  /** Undefined where the org does not give them away, with what it says to that. */
  credentials(app: string): Promise<{ key: string; secret: string } | { refusal: string }>
}

/** Longer than any deployment of a few files; Salesforce queues them. */
const patience = 10 * 60_000

/** The org's own address, and none but Salesforce's: an administrator's token goes there. A simulator may be on this computer. */
export function addressOf(given: string): { url: string; sandbox: boolean } {
  const local = URL.canParse(given) ? new URL(given) : undefined
  if (local && /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(local.hostname))
    return { url: local.href.replace(/\/+$/, ''), sandbox: true }
  const read = readHost(given)
  if (!read.ok) throw new UsageFault(`--instance-url: ${read.fault}`)
  const { host, generic, kind } = read.host
  if (generic)
    throw new UsageFault(
      `--instance-url must be the org's own address, like https://acme--uat.sandbox.my.salesforce.com: ${host} belongs to every org.`,
    )
  return { url: `https://${host}`, sandbox: kind === 'sandbox' || kind === 'scratch' }
}

export function createOrg({ url, sandbox }: { url: string; sandbox: boolean }, token: string): Org {
  async function send(path: string, init: RequestInit = {}): Promise<{ status: number; body: unknown }> {
    let answer: Response
    try {
      answer = await fetch(`${url}/services/data/v${apiVersion}${path}`, {
        ...init,
        redirect: 'manual',
        headers: { Authorization: `Bearer ${token}`, Accept: 'application/json' },
      })
    } catch {
      throw new Unreachable(`There is no answer from ${url}.`)
    }
    const text = await answer.text()
    try {
      return { status: answer.status, body: JSON.parse(text) }
    } catch {
      return { status: answer.status, body: undefined }
    }
  }

  async function ask<Body>(path: string, init?: RequestInit): Promise<Body> {
    const { status, body } = await send(path, init)
    if (status >= 200 && status < 300 && body !== undefined) return body as Body
    throw refused(url, status, body)
  }

  return {
    url,
    sandbox,

    async deploy(archive) {
      const form = new FormData()
      const options = { deployOptions: { singlePackage: true, rollbackOnError: true } }
      form.set('json', new Blob([JSON.stringify(options)], { type: 'application/json' }))
      form.set('file', new Blob([new Uint8Array(archive)], { type: 'application/zip' }), 'deploy.zip')
      const { id } = await ask<{ id: string }>('/metadata/deployRequest', { method: 'POST', body: form })
      const until = performance.now() + patience
      for (let wait = 250; ; wait = Math.min(wait * 2, 5000)) {
        const { deployResult } = await ask<{ deployResult: DeployResult }>(
          `/metadata/deployRequest/${id}?includeDetails=true`,
        )
        if (deployResult.success) return
        if (deployResult.done) throw failed(deployResult)
        if (performance.now() > until)
          throw new Refused(
            0,
            'deploy_timeout',
            `Salesforce is still working on it. Look at ${url} Setup → Deployment Status.`,
          )
        await sleep(wait)
      }
    },

    async credentials(app) {
      const said = (body: unknown) =>
        (body as { message?: string }[] | undefined)?.[0]?.message ?? 'It does not say why.'
      const usage = await send('/apps/oauth/usage')
      if (usage.status !== 200) return { refusal: said(usage.body) }
      const { apps } = usage.body as { apps?: { developerName: string; identifier: string }[] }
      const found = apps?.find(({ developerName }) => developerName === app)
      if (!found) return { refusal: 'It does not list the app yet.' }
      const path = `/apps/oauth/credentials/${encodeURIComponent(found.identifier)}`
      const listed = await send(path)
      const consumer = (listed.body as { consumers?: { id: string }[] } | undefined)?.consumers?.[0]
      if (listed.status !== 200 || !consumer) return { refusal: said(listed.body) }
      const read = await send(`${path}/${encodeURIComponent(consumer.id)}?part=keyandsecret`)
      const { key, secret } = (read.body ?? {}) as { key?: unknown; secret?: unknown }
      return typeof key === 'string' && typeof secret === 'string' ? { key, secret } : { refusal: said(read.body) }
    },
  }
}

interface DeployResult {
  done: boolean
  success: boolean
  errorMessage?: string
  details?: { componentFailures?: { fileName: string; problem: string }[] }
}

const failed = ({ errorMessage, details }: DeployResult): Refused =>
  new Refused(0, 'deploy_failed', 'Salesforce did not deploy it, and nothing was changed there.', [
    ...(errorMessage ? [errorMessage] : []),
    ...(details?.componentFailures ?? []).map(({ fileName, problem }) => `${fileName}: ${problem}`),
  ])

function refused(url: string, status: number, body: unknown): Refused {
  const [error] = Array.isArray(body) ? (body as { errorCode?: string; message?: string }[]) : []
  const help =
    status === 401
      ? 'The access token is not one of this org, or has ended. Take a new one: sf org display --target-org ORG'
      : status === 403
        ? 'The user needs the permission "Modify Metadata Through Metadata API Functions" and API access.'
        : 'Check --instance-url.'
  return new Refused(status, error?.errorCode ?? 'not_salesforce', `${url} answered ${status}. ${help}`, [
    ...(error?.message ? [error.message] : []),
  ])
}
