package keys

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// KMSClient is the part of AWS KMS that is used; *kms.Client implements it.
type KMSClient interface {
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// awsKMS is a key-encryption key that never leaves AWS.
type awsKMS struct {
	client KMSClient
	key    string
}

// AWSKMS uses a symmetric KMS key by its ARN. The caller needs kms:Encrypt (at the first start and when keys are
// rotated) and kms:Decrypt on it.
func AWSKMS(client KMSClient, keyARN string) KEK { return &awsKMS{client: client, key: keyARN} }

func (k *awsKMS) Name() string { return "aws-kms:" + k.key }

// encryptionContext binds a ciphertext to its place; KMS takes text only and shows it in CloudTrail, so it names the
// keyset and nothing else.
func encryptionContext(associated []byte) map[string]string {
	if len(associated) == 0 {
		return nil
	}
	return map[string]string{"lethe": base64.StdEncoding.EncodeToString(associated)}
}

func (k *awsKMS) EncryptWithContext(ctx context.Context, plain, associated []byte) ([]byte, error) {
	out, err := k.client.Encrypt(ctx, &kms.EncryptInput{
		KeyId: aws.String(k.key), Plaintext: plain, EncryptionContext: encryptionContext(associated),
	})
	if err != nil {
		return nil, fmt.Errorf("encrypt with AWS KMS: %w", err)
	}
	return out.CiphertextBlob, nil
}

func (k *awsKMS) DecryptWithContext(ctx context.Context, sealed, associated []byte) ([]byte, error) {
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: aws.String(k.key), CiphertextBlob: sealed, EncryptionContext: encryptionContext(associated),
	})
	if err != nil {
		return nil, fmt.Errorf("decrypt with AWS KMS: %w", err)
	}
	return out.Plaintext, nil
}

// OpenAWSKMS uses a KMS key with the process's own AWS identity. Region may be empty: the identity's own, or the
// ARN's.
func OpenAWSKMS(ctx context.Context, keyARN, region string) (KEK, error) {
	if parsed, err := arn.Parse(keyARN); err == nil && region == "" {
		region = parsed.Region
	}
	var options []func(*config.LoadOptions) error
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	identity, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("find an AWS identity: %w", err)
	}
	return AWSKMS(kms.NewFromConfig(identity), keyARN), nil
}
