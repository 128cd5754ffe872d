// The metadata types an External Client App consists of: where their files lie, which elements they may hold and which
// values those take (fact sheet §5.3, from the WSDL of 2026). What is not listed is a deploy error, as on the platform.

import type { Element } from './xml.ts'

export type Kind = 'text' | 'boolean' | 'integer' | readonly string[] | { each: Record<string, Kind> }

export type MetadataType = {
  name: string
  folder: string
  suffix: string
  required: readonly string[]
  elements: Record<string, Kind>
}

const range: Kind = { each: { startIpAddress: 'text', endIpAddress: 'text', description: 'text' } }

export const SCOPES = {
  A2A: null,
  Address: 'address',
  Api: 'api',
  Basic: 'id',
  CDP: 'cdp_api',
  CDPCalculatedInsight: 'cdp_calculated_insight_api',
  CDPIdentityResolution: 'cdp_identityresolution_api',
  CDPIngest: 'cdp_ingest_api',
  CDPProfile: 'cdp_profile_api',
  CDPQuery: 'cdp_query_api',
  CDPSegment: 'cdp_segment_api',
  Chatbot: 'chatbot_api',
  Chatter: 'chatter_api',
  CmdbDiscovery: null,
  Content: 'content',
  CustomApplications: 'visualforce',
  CustomPermissions: 'custom_permissions',
  DataCloudUserClaims: 'data_cloud_user_claims',
  Eclair: 'eclair_api',
  EinsteinGPT: 'einstein_gpt_api',
  Email: 'email',
  ForgotPassword: 'forgot_password',
  Full: 'full',
  Interaction: 'interaction_api',
  Lightning: 'lightning',
  MCP: 'mcp_api',
  OfflineAccess: 'offline_access',
  OpenID: 'openid',
  Pardot: 'pardot_api',
  Phone: 'phone',
  Profile: 'profile',
  PwdlessLogin: 'pwdless_login_api',
  RefreshToken: 'refresh_token',
  SCRT: 'scrt_api',
  SFAP: 'sfap_api',
  SemanticLayer: null,
  UserRegistration: 'user_registration_api',
  Wave: 'wave_api',
  Web: 'web',
} as const

const APP = 'externalClientApplication'

export const metadataTypes: MetadataType[] = [
  {
    name: 'ExternalClientApplication',
    folder: 'externalClientApps',
    suffix: 'eca',
    required: ['label', 'contactEmail', 'distributionState'],
    elements: {
      label: 'text',
      description: 'text',
      contactEmail: 'text',
      contactPhone: 'text',
      infoUrl: 'text',
      logoUrl: 'text',
      iconUrl: 'text',
      isProtected: 'boolean',
      distributionState: ['Local', 'Packaged', 'Managed', 'AutoInstalled'],
      managedType: ['Local', 'Global'],
      orgScopedExternalApp: 'text',
    },
  },
  {
    name: 'ExtlClntAppGlobalOauthSettings',
    folder: 'extlClntAppGlobalOauthSets',
    suffix: 'ecaGlblOauth',
    required: [APP],
    elements: {
      [APP]: 'text',
      label: 'text',
      callbackUrl: 'text',
      certificate: 'text',
      consumerKey: 'text',
      consumerSecret: 'text',
      idTokenConfig: {
        each: {
          idTokenAudience: 'text',
          idTokenIncludeAttributes: 'boolean',
          idTokenIncludeCustomPermissions: 'boolean',
          idTokenIncludeStandardClaims: 'boolean',
          idTokenValidityInMinutes: 'integer',
        },
      },
      isClientCredentialsFlowEnabled: 'boolean',
      isCodeCredFlowEnabled: 'boolean',
      isCodeCredPostOnly: 'boolean',
      isConsumerSecretOptional: 'boolean',
      isDPopEnabled: 'boolean',
      isDeviceFlowEnabled: 'boolean',
      isEnforceRefreshTokenTTL: 'boolean',
      isIntrospectAllTokens: 'boolean',
      isMtlsEnabled: 'boolean',
      isNamedUserJwtEnabled: 'boolean',
      isPkceRequired: 'boolean',
      isRefreshTokenRotationEnabled: 'boolean',
      isSecretRequiredForRefreshToken: 'boolean',
      isSecretRequiredForTokenExchange: 'boolean',
      isTokenExchangeEnabled: 'boolean',
      shouldRotateConsumerKey: 'boolean',
      shouldRotateConsumerSecret: 'boolean',
    },
  },
  {
    name: 'ExtlClntAppOauthSettings',
    folder: 'extlClntAppOauthSettings',
    suffix: 'ecaOauth',
    required: [APP],
    elements: {
      [APP]: 'text',
      label: 'text',
      commaSeparatedOauthScopes: 'text',
      commaSeparatedCustomScopes: 'text',
      customAttributes: { each: { key: 'text', formula: 'text' } },
      trustedIpRanges: range,
      clientAssertionCertificate: 'text',
      singleLogoutUrl: 'text',
      isFirstPartyAppEnabled: 'boolean',
      areAttributesIncludedInAssetToken: 'boolean',
      areCustomPermsIncludedInAssetToken: 'boolean',
      assetTokenAudiences: 'text',
      assetTokenSigningCertificate: 'text',
      assetTokenValidity: 'integer',
      oauthLink: 'text',
    },
  },
  {
    name: 'ExtlClntAppOauthConfigurablePolicies',
    folder: 'extlClntAppOauthPolicies',
    suffix: 'ecaOauthPlcy',
    required: [APP],
    elements: {
      [APP]: 'text',
      label: 'text',
      permittedUsersPolicyType: ['AllSelfAuthorized', 'AdminApprovedPreAuthorized'],
      commaSeparatedProfile: 'text',
      commaSeparatedPermissionSet: 'text',
      ipRelaxationPolicyType: ['Enforce', 'Bypass', 'Bypass_2factor', 'Enforce_RelaxRefresh'],
      refreshTokenPolicyType: ['Infinite', 'Zero', 'SpecificLifetime', 'SpecificInactivity'],
      refreshTokenValidityPeriod: 'integer',
      refreshTokenValidityUnit: ['Hours', 'Days', 'Months'],
      sessionTimeoutInMinutes: 'integer',
      requiredSessionLevel: ['LOW', 'STANDARD', 'HIGH_ASSURANCE'],
      policyAction: ['Block', 'RaiseSessionLevel', 'StepUpMFA'],
      isClientCredentialsFlowEnabled: 'boolean',
      clientCredentialsFlowUser: 'text',
      isTokenExchangeFlowEnabled: 'boolean',
      isGuestCodeCredFlowEnabled: 'boolean',
      namedUserJwtSessionTimeoutType: ['UserSession', 'Custom'],
      namedUserJwtTimeout: 'integer',
      guestJwtSessionTimeoutType: ['UserSession', 'Custom'],
      guestJwtTimeout: 'integer',
      apexHandler: 'text',
      executeHandlerAs: 'text',
      customAttributes: { each: { key: 'text', formula: 'text' } },
      startUrl: 'text',
      singleLogoutUrl: 'text',
      commaSeparatedCustomScopes: 'text',
    },
  },
  {
    name: 'ExtlClntAppConfigurablePolicies',
    folder: 'extlClntAppPolicies',
    suffix: 'ecaPlcy',
    required: [APP, 'isEnabled'],
    elements: {
      [APP]: 'text',
      label: 'text',
      isEnabled: 'boolean',
      isOauthPluginEnabled: 'boolean',
      isAttestPluginEnabled: 'boolean',
      isCanvasPluginEnabled: 'boolean',
      isMobilePluginEnabled: 'boolean',
      isNotificationPluginEnabled: 'boolean',
      isPushPluginEnabled: 'boolean',
      isSamlPluginEnabled: 'boolean',
      startPage: ['None', 'Custom', 'OAuth', 'SAML'],
      startUrl: 'text',
    },
  },
  {
    name: 'ExtlClntAppOauthSecuritySettings',
    folder: 'extlClntAppOauthSecuritySettings',
    suffix: 'ecaOauthSecurity',
    required: [APP],
    elements: {
      [APP]: 'text',
      label: 'text',
      tlsClientAuthCertParamType: 'text',
      tlsClientAuthCertParamValue: 'text',
      tokenIpRanges: range,
    },
  },
  {
    name: 'ExternalClientAppSettings',
    folder: 'settings',
    suffix: 'settings',
    required: [],
    elements: {
      enableConsumerSecretApiAccess: 'boolean',
      enableClientSecretInRestApiAccess: 'boolean',
      enablePackageEcaOauthFromDevOrg: 'boolean',
    },
  },
]

/** What is wrong with a document, in the platform's words as far as they are known [R]; null when nothing is. */
export function faultIn(type: MetadataType, document: Element): string | null {
  if (document.name !== type.name) return `Invalid root element ${document.name}, expected ${type.name}`
  return faultAmong(type.name, type.elements, document.children) ?? missing(type, document)
}

function missing(type: MetadataType, document: Element): string | null {
  const name = type.required.find(
    element => !document.children.some(child => child.name === element && child.text !== ''),
  )
  return name === undefined ? null : `Required field is missing: ${name}`
}

function faultAmong(owner: string, elements: Record<string, Kind>, children: Element[]): string | null {
  const seen = new Set<string>()
  for (const child of children) {
    const kind = Object.hasOwn(elements, child.name) ? elements[child.name] : undefined
    if (kind === undefined) return `Element ${child.name} invalid at this location in type ${owner}`
    const many = typeof kind === 'object' && 'each' in kind
    if (!many && seen.has(child.name)) return `Element ${child.name} is duplicated at this location in type ${owner}`
    seen.add(child.name)
    const fault = many ? faultAmong(child.name, kind.each, child.children) : faultOf(child, kind)
    if (fault) return fault
  }
  return null
}

function faultOf(
  { name, text, children }: Element,
  kind: Exclude<Kind, { each: Record<string, Kind> }>,
): string | null {
  if (children.length > 0) return `Element ${children[0]?.name} invalid at this location in type ${name}`
  if (kind === 'text') return null
  if (kind === 'boolean')
    return /^(true|false)$/.test(text) ? null : `'${text}' is not a valid value for the type boolean`
  if (kind === 'integer') return /^\d+$/.test(text) ? null : `'${text}' is not a valid value for the type int`
  return kind.includes(text) ? null : `'${text}' is not a valid value for the enum '${enumOf(name)}'`
}

const enumOf = (element: string) => element.charAt(0).toUpperCase() + element.slice(1)
